"""Semantic ids: an item as a short path of codes, coarse to fine."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SemanticId = tuple[int, ...]

_TOKEN = re.compile(r"<([a-z])_(\d+)>")


def format_semantic_id(codes: Sequence[int]) -> str:
    """Write codes as `<a_12><b_201><c_7>`."""
    return "".join(f"<{chr(ord('a') + level)}_{code}>" for level, code in enumerate(codes))


def parse_semantic_id(text: str) -> SemanticId:
    """Read `<a_12><b_201><c_7>`; raises `ValueError` on anything else."""
    tokens = _TOKEN.findall(text)
    codes = tuple(int(code) for _, code in tokens)
    if not codes or format_semantic_id(codes) != text:
        raise ValueError(f"{text!r} is not a semantic id; write it as <a_12><b_201><c_7>")
    return codes


class SemanticIdTable:
    """The semantic id of every item of a catalogue; no two items share one."""

    __slots__ = ("_item_of", "codebook_sizes", "codes")

    def __init__(self, codes: NDArray[np.integer], codebook_sizes: Sequence[int]) -> None:
        """Take (items, levels) codes; raises `ValueError` on a wrong shape, range or a shared path."""
        self.codes: NDArray[np.int32] = np.ascontiguousarray(codes, dtype=np.int32)
        self.codebook_sizes: tuple[int, ...] = tuple(int(size) for size in codebook_sizes)
        if self.codes.ndim != 2 or self.codes.shape[1] != len(self.codebook_sizes):
            raise ValueError(f"codes of shape {self.codes.shape} do not fit {len(self.codebook_sizes)} levels")
        if self.codes.size and (self.codes.min() < 0 or (self.codes.max(axis=0) >= self.codebook_sizes).any()):
            raise ValueError(f"a code lies outside its codebook; the sizes are {self.codebook_sizes}")
        self._item_of: dict[SemanticId, int] = {}
        for item, row in enumerate(self.codes.tolist()):
            path = tuple(row)
            first = self._item_of.setdefault(path, item)
            if first != item:
                name = format_semantic_id(path)
                raise ValueError(f"items {first} and {item} share the semantic id {name}")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        """All levels, the de-duplication level included."""
        return len(self.codebook_sizes)

    def path_of(self, item: int) -> SemanticId:
        """The semantic id of an item index."""
        return tuple(int(code) for code in self.codes[item])

    def item_of(self, path: Sequence[int]) -> int | None:
        """The item index at a path, or None."""
        return self._item_of.get(tuple(path))
