"""Who holds which semantic id: built once, it gives a later item a free one in well under a millisecond."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import ModelError
from asterism.core.semantic_id import SemanticIdTable, format_semantic_id
from asterism.semantic_ids.quantizer import Quantizer, check_vectors

FULL = -1  # instead of a de-duplication code


class TakenCodes:
    """Which de-duplication codes of each path are taken."""

    __slots__ = ("_masks", "_size")

    def __init__(self, codes: NDArray[np.int32], size: int = sys.maxsize) -> None:
        """Start from (N, levels) unique ids; a path has `size` codes."""
        self._size = size
        self._masks: dict[bytes, int] = {}  # bit c is set where the code c is taken
        masks = self._masks
        for path, last in zip(path_keys(codes[:, :-1]), codes[:, -1].tolist(), strict=True):
            masks[path] = masks.get(path, 0) | 1 << last

    def take_lowest(self, path: bytes) -> int:
        """Take the lowest free code of a path; `FULL` where none is."""
        mask = self._masks.get(path, 0)
        lowest = (~mask & (mask + 1)).bit_length() - 1
        if lowest >= self._size:
            return FULL
        self._masks[path] = mask | 1 << lowest
        return lowest

    def give_back(self, path: bytes, code: int) -> bool:
        """Free a code; whether it was taken."""
        mask = self._masks.get(path, 0)
        if code < 0 or not mask >> code & 1:
            return False
        self._masks[path] = mask ^ 1 << code
        return True


class SemanticIdRegister:
    """The ids of a catalogue that grows and shrinks: nobody gets an id that another holds."""

    def __init__(self, table: SemanticIdTable, quantizer: Quantizer) -> None:
        """Start from a table's ids; a million of them take about a second."""
        self._quantizer = quantizer
        self._levels = table.levels
        self._taken = TakenCodes(table.codes, table.codebook_sizes[-1])

    def assign(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
        """(M, levels) ids for new items, who hold them from now on; one by one, in order, they would get the same.

        An item gets its nearest codes and the lowest free de-duplication code; where that path is full, the next
        nearest code of the last fitted level. Raises `DataError` on broken vectors and `ModelError` where
        every path under an item's prefix is full; then nobody of the batch holds an id.
        """
        new = check_vectors(vectors, self._quantizer.width)
        ids = np.empty((len(new), self._levels), dtype=np.int32)
        ids[:, :-1] = self._quantizer.assign(new)
        rankings: dict[bytes, NDArray[np.int64]] = {}
        for row, path in enumerate(path_keys(ids[:, :-1])):
            free = self._taken.take_lowest(path)
            if free != FULL:
                ids[row, -1] = free
                continue
            twin = new[row].tobytes()
            if twin not in rankings:
                rankings[twin] = _last_codes_by_distance(self._quantizer, new[row], ids[row])
            found = self._take_next_nearest(ids[row], rankings[twin])
            if found is None:
                self._give_back(ids[:row])
                raise ModelError(
                    f"no semantic id is free under the codes {ids[row, :-2].tolist()} for a new item; "
                    "train again with more codes or levels, so that the catalogue has room"
                )
            ids[row, -2:] = found
        return ids

    def release(self, ids: NDArray[np.integer[Any]]) -> None:
        """Free the (M, levels) ids of items that have left; raises `ModelError` on one that nobody holds."""
        rows = np.asarray(ids, dtype=np.int32).reshape(-1, self._levels)
        freed = self._give_back(rows)
        if freed < len(rows):
            name = format_semantic_id(rows[freed].tolist())
            raise ModelError(f"nobody holds the semantic id {name}, so it cannot be released; those before it were")

    def _take_next_nearest(self, own: NDArray[np.int32], ranking: NDArray[np.int64]) -> tuple[int, int] | None:
        candidates = np.repeat(own[None, :-1], len(ranking), axis=0)
        candidates[:, -1] = ranking
        for code, path in zip(ranking.tolist(), path_keys(candidates), strict=True):
            free = self._taken.take_lowest(path)
            if free != FULL:
                return code, free
        return None

    def _give_back(self, ids: NDArray[np.int32]) -> int:
        """Free ids up to the first that nobody holds; how many were freed."""
        for row, (path, code) in enumerate(zip(path_keys(ids[:, :-1]), ids[:, -1].tolist(), strict=True)):
            if not self._taken.give_back(path, code):
                return row
        return len(ids)


def path_keys(paths: NDArray[np.int32]) -> list[bytes]:
    """Each of (N, levels) paths as a key of a dictionary."""
    rows = np.ascontiguousarray(paths, dtype=np.int32)
    keys: list[bytes] = rows.view(f"V{rows.itemsize * rows.shape[1]}")[:, 0].tolist()
    return keys


def _last_codes_by_distance(
    quantizer: Quantizer, vector: NDArray[np.float32], own: NDArray[np.int32]
) -> NDArray[np.int64]:
    """The codes of the last fitted level that an item may take, nearest first, the lowest code first where equal."""
    distances = quantizer.last_level_distances(vector[None], own[None, :-1])[0]
    ranking = distances.argsort(kind="stable")
    return np.asarray(ranking[np.isfinite(distances[ranking])], dtype=np.int64)
