"""From vectors to unique semantic ids, and room in a finished table for items that come later."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from asterism.config import SemanticIdConfig
from asterism.core.errors import ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.semantic_ids.collisions import deduplication_codes, reassign_colliding
from asterism.semantic_ids.methods import fit
from asterism.semantic_ids.quantizer import Quantizer, check_vectors


def build_semantic_ids(
    vectors: NDArray[np.floating[Any]], config: SemanticIdConfig, seed: int
) -> tuple[SemanticIdTable, Quantizer]:
    """Fit the configured method to (N, D) item vectors and give every item its own semantic id.

    With `config.reassign_colliding` items that share all codes first move to free codes of the last fitted level.
    The de-duplication level tells apart what still shares all codes above it: the first (by index) keeps 0.
    It has `config.codes` codes, or as many as the largest group needs. Raises `DataError` on broken vectors.
    """
    quantizer = fit(vectors, config, seed)
    paths = quantizer.assign(vectors)
    if config.reassign_colliding:
        paths = reassign_colliding(quantizer, vectors, paths)
    return unique_table(paths, config.codes), quantizer


def unique_table(paths: NDArray[np.int32], codes: int) -> SemanticIdTable:
    """The table of (N, levels - 1) paths with a de-duplication level behind; `codes` is the size of each level."""
    last = deduplication_codes(paths)
    sizes = (codes,) * paths.shape[1] + (max(codes, int(last.max()) + 1),)
    return SemanticIdTable(np.column_stack([paths, last]), sizes)


def assign_new(table: SemanticIdTable, quantizer: Quantizer, vectors: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    """(M, levels) semantic ids for new items, in order, that collide neither with the table nor with each other.

    An item gets its nearest codes and the lowest free de-duplication code; where that path is full, the next
    nearest code of the last residual level. No existing item moves. Raises `DataError` on broken vectors and
    `ModelError` where every path under an item's prefix is full.
    """
    new = check_vectors(vectors, quantizer.width)
    paths = quantizer.assign(new)
    taken = _taken(table)
    out = np.empty((len(new), table.levels), dtype=np.int32)
    for row, path in enumerate(paths.tolist()):
        free = _lowest_free(taken, tuple(path), table.codebook_sizes[-1])
        if free is None:
            path, free = _next_nearest(taken, quantizer, new[row], path, table.codebook_sizes[-1])
        taken.setdefault(tuple(path), set()).add(free)
        out[row] = (*path, free)
    return out


def extend(table: SemanticIdTable, codes: NDArray[np.int32]) -> SemanticIdTable:
    """The table with more items behind its own; raises `ValueError` where an id is taken."""
    return SemanticIdTable(np.concatenate([table.codes, codes]), table.codebook_sizes)


def _taken(table: SemanticIdTable) -> dict[tuple[int, ...], set[int]]:
    taken: dict[tuple[int, ...], set[int]] = {}
    for row in table.codes.tolist():
        taken.setdefault(tuple(row[:-1]), set()).add(row[-1])
    return taken


def _lowest_free(taken: dict[tuple[int, ...], set[int]], path: tuple[int, ...], size: int) -> int | None:
    used = taken.get(path, set())
    return next((code for code in range(min(size, len(used) + 1)) if code not in used), None)


def _next_nearest(
    taken: dict[tuple[int, ...], set[int]],
    quantizer: Quantizer,
    vector: NDArray[np.float32],
    path: list[int],
    size: int,
) -> tuple[list[int], int]:
    distances = quantizer.last_level_distances(vector[None], np.asarray([path]))[0]
    for code in distances.argsort(kind="stable").tolist():
        candidate = [*path[:-1], code]
        free = _lowest_free(taken, tuple(candidate), size)
        if free is not None:
            return candidate, free
    raise ModelError(
        f"no semantic id is free under the codes {path[:-1]} for a new item; "
        "train again with more codes or levels, so that the catalogue has room"
    )
