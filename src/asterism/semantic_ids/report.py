"""How good semantic ids are: error, use of the codebooks, collisions, the shape of the tree, and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from asterism.core import records
from asterism.core.errors import DataError
from asterism.core.semantic_id import SemanticIdTable
from asterism.semantic_ids.meaning import PrefixExample, category_labels, prefix_examples, prefix_purity
from asterism.semantic_ids.neighbours import neighbour_overlap
from asterism.semantic_ids.quantizer import Quantizer, check_vectors

_COLLAPSED_PERPLEXITY = 0.1  # of the codes that could be used
_COLLAPSED_SHARE = 0.5  # of all items on one code


@dataclass(frozen=True, slots=True)
class LevelReport:
    """One level, coarse to fine; the last is the de-duplication level."""

    codebook_size: int
    used_codes: int
    perplexity: float  # exp of the entropy of code frequencies: codebook_size when all are used alike
    largest_share: float  # of all items that carry the commonest code
    mean_children: float  # codes of this level that occur under one prefix of the levels above
    max_children: int
    relative_error: float | None  # squared error left after this level ÷ variance; None without vectors or centroids
    purity: float | None  # items of their prefix's commonest category; None without categories


@dataclass(frozen=True, slots=True)
class SemanticIdReport:
    """A catalogue's semantic ids in numbers."""

    items: int
    levels: tuple[LevelReport, ...]
    collision_rate_nearest: float | None  # of the nearest codes, before items were moved apart; None without vectors
    moved_items: int | None  # whose codes are not the nearest ones
    collision_rate_before: float  # 1 - distinct paths ÷ items, without the de-duplication level
    collision_rate_after: float  # with it
    largest_group: int  # items that share one path before de-duplication
    neighbour_overlap: float | None  # of the 10 nearest by vector with the 10 nearest rebuilt from codes
    collapsed_levels: tuple[str, ...]  # a sentence for each level whose codes are hardly used
    examples: tuple[PrefixExample, ...]  # frequent prefixes with titles of their items


def report(
    table: SemanticIdTable,
    quantizer: Quantizer | None = None,
    vectors: NDArray[np.floating[Any]] | None = None,
    items: pa.Table | None = None,
) -> SemanticIdReport:
    """Measure a table; with its quantiser and the (N, D) vectors of its items also errors, moves and neighbours.

    With the items' table also the purity of prefixes and examples. Raises `DataError` on an empty table and
    where vectors or items are not those of the table.
    """
    if len(table) == 0:
        raise DataError("there are no semantic ids to report on; build them from at least one item")
    if items is not None and items.num_rows != len(table):
        raise DataError(f"a catalogue of {items.num_rows} items does not belong to a table of {len(table)} items")
    geometry = _geometry(table, quantizer, vectors)
    labels = None if items is None else category_labels(items)
    levels = tuple(_level(table, level, geometry.errors[level], labels) for level in range(table.levels))
    titled = items is not None and records.TITLE in items.column_names
    _, group_sizes = np.unique(table.codes[:, :-1], axis=0, return_counts=True)
    return SemanticIdReport(
        items=len(table),
        levels=levels,
        collision_rate_nearest=geometry.collision_rate,
        moved_items=geometry.moved_items,
        collision_rate_before=1 - len(group_sizes) / len(table),
        collision_rate_after=1 - len(np.unique(table.codes, axis=0)) / len(table),
        largest_group=int(group_sizes.max()),
        neighbour_overlap=geometry.neighbour_overlap,
        collapsed_levels=tuple(_collapses(levels, len(table))),
        examples=prefix_examples(table, items[records.TITLE].to_pylist()) if titled and items is not None else (),
    )


def render_report(found: SemanticIdReport, name: str = "semantic ids") -> Group:
    """The report for the terminal: a table of levels, collapses named, and examples."""
    table = Table(
        title=f"{name}: {found.items:,} items; collisions {found.collision_rate_before:.2%} before de-duplication, "
        f"{found.collision_rate_after:.2%} after; largest group {found.largest_group}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # fits a terminal of 80 columns
        pad_edge=False,
    )
    names = (
        "level",
        "codes",
        "used",
        "perplexity",
        "largest",
        "children",
        "most",
        "error",
        "purity",
    )
    for column in names:
        table.add_column(column, justify="right")
    for level, one in enumerate(found.levels):
        use = (one.codebook_size, one.used_codes, f"{one.perplexity:.1f}", f"{one.largest_share:.2%}")
        children = (f"{one.mean_children:.2f}", one.max_children)
        rates = ("" if rate is None else f"{rate:.4f}" for rate in (one.relative_error, one.purity))
        table.add_row(chr(ord("a") + level), *map(str, (*use, *children)), *rates)
    lines = [*geometry_lines(found), *found.collapsed_levels]
    lines += [f"{one.prefix}, {one.items:,} items: {'; '.join(one.titles)}" for one in found.examples]
    return Group(table, *(Text(line) for line in lines))


def geometry_lines(found: SemanticIdReport) -> list[str]:
    """What the vectors tell of the whole, in sentences; none without vectors."""
    if found.moved_items is None:
        return []
    lines = [
        f"the nearest codes collide at {found.collision_rate_nearest:.2%}; "
        f"{found.moved_items:,} items were moved to other codes"
    ]
    if found.neighbour_overlap is not None:
        lines.append(f"{found.neighbour_overlap:.1%} of the 10 nearest items stay the nearest when rebuilt from codes")
    return lines


def _level(table: SemanticIdTable, level: int, error: float | None, labels: NDArray[np.int64] | None) -> LevelReport:
    counts = np.bincount(table.codes[:, level], minlength=table.codebook_sizes[level])
    shares = counts[counts > 0] / len(table)
    prefixes = np.unique(table.codes[:, : level + 1], axis=0)
    _, children = np.unique(prefixes[:, :-1], axis=0, return_counts=True) if level else (None, [len(prefixes)])
    return LevelReport(
        codebook_size=table.codebook_sizes[level],
        used_codes=len(shares),
        perplexity=float(np.exp(-(shares * np.log(shares)).sum())),
        largest_share=float(shares.max()),
        mean_children=float(np.mean(children)),
        max_children=int(np.max(children)),
        relative_error=error,
        purity=None if labels is None else prefix_purity(table, level + 1, labels),
    )


class _Geometry(NamedTuple):
    """What only vectors tell."""

    errors: list[float | None]
    collision_rate: float | None = None
    moved_items: int | None = None
    neighbour_overlap: float | None = None


def _geometry(
    table: SemanticIdTable, quantizer: Quantizer | None, vectors: NDArray[np.floating[Any]] | None
) -> _Geometry:
    if quantizer is None or vectors is None:
        return _Geometry([None] * table.levels)
    checked = check_vectors(vectors, quantizer.width)
    if len(checked) != len(table):
        raise DataError(f"{len(checked)} vectors do not belong to a table of {len(table)} items")
    spread = float(np.square(checked - checked.mean(axis=0)).sum())
    rebuilt = [quantizer.reconstruct(table.codes[:, :depth]) for depth in range(1, table.levels)]
    left = [float(np.square(checked - one).sum()) for one in rebuilt]
    nearest = quantizer.assign(checked)
    return _Geometry(
        errors=[error / spread if spread > 0 else 0.0 for error in left] + [None],
        collision_rate=1 - len(np.unique(nearest, axis=0)) / len(table),
        moved_items=int((nearest != table.codes[:, :-1]).any(axis=1).sum()),
        neighbour_overlap=neighbour_overlap(checked, rebuilt[-1]),
    )


def _collapses(levels: Sequence[LevelReport], items: int) -> Iterator[str]:
    for place, level in enumerate(levels[:-1]):
        usable = min(level.codebook_size, items)
        crowded = usable > 2 and level.largest_share > _COLLAPSED_SHARE
        if crowded or level.perplexity < _COLLAPSED_PERPLEXITY * usable:
            yield (
                f"level {chr(ord('a') + place)} has collapsed: {level.used_codes} of {level.codebook_size} codes "
                f"are used, and the commonest holds {level.largest_share:.0%} of the items; "
                "use fewer codes, another method, or vectors that differ more"
            )
