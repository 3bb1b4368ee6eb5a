"""How good semantic ids are: error, use of the codebooks, collisions, and the shape of the tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from asterism.core.errors import DataError
from asterism.core.semantic_id import SemanticIdTable
from asterism.semantic_ids.quantizer import Quantizer, check_vectors


@dataclass(frozen=True, slots=True)
class LevelReport:
    """One level, coarse to fine; the last is the de-duplication level."""

    codebook_size: int
    used_codes: int
    perplexity: float  # exp of the entropy of code frequencies: codebook_size when all are used alike
    mean_children: float  # codes of this level that occur under one prefix of the levels above
    max_children: int
    relative_error: float | None  # squared error left after this level ÷ variance; None without vectors or centroids


@dataclass(frozen=True, slots=True)
class SemanticIdReport:
    """A catalogue's semantic ids in numbers."""

    items: int
    levels: tuple[LevelReport, ...]
    collision_rate_before: float  # 1 - distinct paths ÷ items, without the de-duplication level
    collision_rate_after: float  # with it
    largest_group: int  # items that share one path before de-duplication


def report(
    table: SemanticIdTable, quantizer: Quantizer | None = None, vectors: NDArray[np.floating[Any]] | None = None
) -> SemanticIdReport:
    """Measure a table; with its quantiser and the (N, D) vectors of its items also the error of each level.

    Raises `DataError` on an empty table and where the vectors are not those of the table's items.
    """
    if len(table) == 0:
        raise DataError("there are no semantic ids to report on; build them from at least one item")
    errors = _relative_errors(table, quantizer, vectors)
    _, group_sizes = np.unique(table.codes[:, :-1], axis=0, return_counts=True)
    return SemanticIdReport(
        items=len(table),
        levels=tuple(_level(table, level, errors[level]) for level in range(table.levels)),
        collision_rate_before=1 - len(group_sizes) / len(table),
        collision_rate_after=1 - len(np.unique(table.codes, axis=0)) / len(table),
        largest_group=int(group_sizes.max()),
    )


def render_report(found: SemanticIdReport) -> Table:
    """The report as a table for the terminal."""
    table = Table(
        title=f"{found.items:,} items; collisions {found.collision_rate_before:.2%} before de-duplication, "
        f"{found.collision_rate_after:.2%} after; largest group {found.largest_group}"
    )
    for column in ("level", "codes", "used", "perplexity", "children (mean)", "children (max)", "error left"):
        table.add_column(column, justify="right")
    for level, one in enumerate(found.levels):
        error = "" if one.relative_error is None else f"{one.relative_error:.4f}"
        numbers = (one.codebook_size, one.used_codes, f"{one.perplexity:.1f}", f"{one.mean_children:.2f}")
        table.add_row(chr(ord("a") + level), *map(str, numbers), str(one.max_children), error)
    return table


def _level(table: SemanticIdTable, level: int, error: float | None) -> LevelReport:
    counts = np.bincount(table.codes[:, level], minlength=table.codebook_sizes[level])
    shares = counts[counts > 0] / len(table)
    prefixes = np.unique(table.codes[:, : level + 1], axis=0)
    _, children = np.unique(prefixes[:, :-1], axis=0, return_counts=True) if level else (None, [len(prefixes)])
    return LevelReport(
        codebook_size=table.codebook_sizes[level],
        used_codes=len(shares),
        perplexity=float(np.exp(-(shares * np.log(shares)).sum())),
        mean_children=float(np.mean(children)),
        max_children=int(np.max(children)),
        relative_error=error,
    )


def _relative_errors(
    table: SemanticIdTable, quantizer: Quantizer | None, vectors: NDArray[np.floating[Any]] | None
) -> list[float | None]:
    if quantizer is None or vectors is None:
        return [None] * table.levels
    checked = check_vectors(vectors, quantizer.width)
    if len(checked) != len(table):
        raise DataError(f"{len(checked)} vectors do not belong to a table of {len(table)} items")
    spread = float(np.square(checked - checked.mean(axis=0)).sum())
    depths = range(1, table.levels)
    left = [float(np.square(checked - quantizer.reconstruct(table.codes[:, :depth])).sum()) for depth in depths]
    return [error / spread if spread > 0 else 0.0 for error in left] + [None]
