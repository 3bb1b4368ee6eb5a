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
        self._item_of: dict[SemanticId, int] | None = None
        group = path_groups(self.codes)
        if len(group) and int(group.max()) + 1 < len(group):
            first, second = _first_shared(group)
            name = format_semantic_id(self.path_of(second))
            raise ValueError(f"items {first} and {second} share the semantic id {name}")

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def levels(self) -> int:
        """All levels, the de-duplication level included."""
        return len(self.codebook_sizes)

    def path_of(self, item: int) -> SemanticId:
        """The semantic id of an item index."""
        return tuple(self.codes[item].tolist())

    def item_of(self, path: Sequence[int]) -> int | None:
        """The item index at a path, or None."""
        if self._item_of is None:  # a million items take a second, and few callers ask
            self._item_of = {tuple(row): item for item, row in enumerate(self.codes.tolist())}
        return self._item_of.get(tuple(path))


def path_groups(paths: NDArray[np.int32]) -> NDArray[np.int64]:
    """(N,) a number for each of (N, levels) paths, equal where they are equal, in their order and without gaps."""
    group, groups = np.zeros(len(paths), dtype=np.int64), 1
    for codes in paths.T:
        size = int(codes.max(initial=0)) + 1
        if groups * size >= 2**62:
            group = np.unique(group, return_inverse=True)[1].reshape(-1)
            groups = int(group.max(initial=0)) + 1
        group, groups = group * size + codes, groups * size
    return np.asarray(np.unique(group, return_inverse=True)[1]).reshape(-1)


def _first_shared(group: NDArray[np.int64]) -> tuple[int, int]:
    """The first row whose group an earlier row has, and that earlier row before it."""
    _, firsts = np.unique(group, return_index=True)
    second = int(np.setdiff1d(np.arange(len(group)), firsts)[0])
    return int(firsts[group[second]]), second
