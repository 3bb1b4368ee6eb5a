"""What prefixes of codes mean: how pure their items' categories are, and which titles stand under them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asterism.core import records
from asterism.core.semantic_id import SemanticIdTable, format_semantic_id
from asterism.data.columns import parse_categories

_PREFIXES_SHOWN = 4  # a level
_TITLES_SHOWN = 5  # a prefix


@dataclass(frozen=True, slots=True)
class PrefixExample:
    """Items under one prefix."""

    prefix: str  # such as <a_12><b_201>
    items: int
    titles: tuple[str, ...]


def category_labels(items: pa.Table) -> NDArray[np.int64] | None:
    """(N,) a category for each item, -1 where it has none; None where the table does not say.

    Of lists from coarse to fine, the first place at which items differ counts.
    """
    if records.CATEGORIES not in items.column_names:
        return None
    paths = [one or [] for one in parse_categories(items[records.CATEGORIES]).values.to_pylist()]
    depth = 0
    while len({path[depth] for path in paths if len(path) > depth}) == 1:
        depth += 1
    names = [path[depth] if len(path) > depth else None for path in paths]
    places = {name: place for place, name in enumerate(sorted({one for one in names if one is not None}))}
    return np.array([-1 if one is None else places[one] for one in names]) if places else None


def prefix_purity(table: SemanticIdTable, depth: int, labels: NDArray[np.int64]) -> float | None:
    """Share of items whose category is the commonest under their prefix, over prefixes of two and more items."""
    known = labels >= 0
    _, group = np.unique(table.codes[known, :depth], axis=0, return_inverse=True)
    pairs, counts = np.unique(np.column_stack([group.reshape(-1), labels[known]]), axis=0, return_counts=True)
    if not len(pairs):
        return None
    sizes = np.bincount(pairs[:, 0], weights=counts)
    commonest = np.zeros(len(sizes))
    np.maximum.at(commonest, pairs[:, 0], counts)
    shared = sizes >= 2
    return float(commonest[shared].sum() / sizes[shared].sum()) if shared.any() else None


def prefix_examples(table: SemanticIdTable, titles: list[str | None]) -> tuple[PrefixExample, ...]:
    """The most frequent prefixes of one and of two codes, each with the titles of its first items."""
    examples = []
    for depth in range(1, min(2, table.levels - 1) + 1):
        prefixes, group, counts = np.unique(table.codes[:, :depth], axis=0, return_inverse=True, return_counts=True)
        for place in np.argsort(-counts, kind="stable")[:_PREFIXES_SHOWN]:
            first = np.flatnonzero(group.reshape(-1) == place)[:_TITLES_SHOWN]
            shown = tuple(titles[item] or "(no title)" for item in first)
            examples.append(PrefixExample(format_semantic_id(prefixes[place].tolist()), int(counts[place]), shown))
    return tuple(examples)
