"""The slow twin of the trie: a dictionary of paths, every question answered by looking at all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asterism.core.semantic_id import SemanticId
from asterism.decoding.snapshot import TrieSnapshot

Paths = dict[SemanticId, int]

#: Bitmaps on all levels; a wide level above, at and below the nodes; blocks of several levels; no level above nodes.
SIZES = [
    (2, 3),
    (5,),
    (8,) * 6,
    (32, 32, 8),
    (256, 256, 256, 19),
    (300, 5),
    (4, 1000, 3),
    (256, 256, 300, 7),
    (5, 4, 9, 17, 3),
    (70_000, 3),
    (256, 256, 4, 300),
    (2,) * 19,
]


def slow_allowed(paths: Paths, prefix: SemanticId) -> list[int]:
    return sorted({path[len(prefix)] for path in paths if path[: len(prefix)] == prefix})


def slow_sole_item(paths: Paths, prefix: SemanticId) -> int:
    below = [item for path, item in paths.items() if path[: len(prefix)] == prefix]
    return below[0] if len(below) == 1 else -1


def check_against(view: TrieSnapshot, paths: Paths, asked: Sequence[SemanticId] = (), seed: int = 0) -> None:
    """Ask about prefixes of paths that are there, of others that are given, and of strangers."""
    random = np.random.default_rng(seed)
    sizes = view.layout.sizes
    assert len(view) == len(paths)
    strangers = [tuple(int(random.integers(size)) for size in sizes) for _ in range(6)]
    whole = [*sorted(paths)[:20], *asked, *strangers]
    for level, size in enumerate(sizes):
        prefixes = [path[:level] for path in whole]
        array = np.array(prefixes, dtype=np.int64).reshape(1, len(prefixes), level)
        mask = view.allowed(array)
        assert mask.shape == (1, len(prefixes), size)
        assert [np.flatnonzero(row).tolist() for row in mask[0]] == [slow_allowed(paths, prefix) for prefix in prefixes]
        assert view.sole_items(array)[0].tolist() == [slow_sole_item(paths, prefix) for prefix in prefixes]
    assert view.items_of(np.array(whole)).tolist() == [paths.get(path, -1) for path in whole]
    assert np.flatnonzero(view.present).tolist() == sorted(paths.values())
