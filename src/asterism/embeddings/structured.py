"""Structured fields as features that need no fitting: hashed categories and brands, soft buckets of numbers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asterism.core.records import BRAND, CATEGORIES, CREATED_AT, KIND, PRICE, Kind
from asterism.embeddings.part import Part

HASHED_WIDTH: Final = 256
_KINDS: Final = tuple(Kind)
_LOG10_PRICES: Final = np.linspace(-2.0, 5.0, 22)  # a third of a decade each, from a cent to 100,000
_YEARS: Final = np.arange(1970.0, 2051.0, 2.0)
_SECONDS_A_YEAR: Final = 365.2425 * 86400


def structured_part(items: pa.Table) -> Part:
    """(N, d) features of categories, brand, price, kind and age, each block of unit length where it is known.

    Every field is optional; an item with none of them is not present.
    """
    blocks = [
        _each(items, CATEGORIES, HASHED_WIDTH, _categories),
        _each(items, BRAND, HASHED_WIDTH, _brand),
        _each(items, PRICE, len(_LOG10_PRICES), _price),
        _each(items, KIND, len(_KINDS), _kind),
        _each(items, CREATED_AT, len(_YEARS), _created_at),
    ]
    vectors = np.concatenate(blocks, axis=1)
    return Part(vectors, np.asarray(vectors.any(axis=1)))


def _each(items: pa.Table, field: str, width: int, feature: Any) -> NDArray[np.float32]:
    block = np.zeros((items.num_rows, width), dtype=np.float32)
    if field in items.column_names:
        for row, value in enumerate(items[field].to_pylist()):
            if value is not None:
                feature(block[row], value)
    return block


def _categories(row: NDArray[np.float32], value: list[str] | str) -> None:
    names = value.split(",") if isinstance(value, str) else value
    known = [name.strip() for name in names if name and name.strip()]
    _add_hashed(row, ((name, (level + 1) ** -0.5) for level, name in enumerate(known)))


def _brand(row: NDArray[np.float32], value: str) -> None:
    if value.strip():
        _add_hashed(row, [(value.strip(), 1.0)])


def _price(row: NDArray[np.float32], value: float) -> None:
    if value > 0 and np.isfinite(value):
        _add_soft_bucket(row, float(np.log10(value)), _LOG10_PRICES)


def _kind(row: NDArray[np.float32], value: str) -> None:
    if value in _KINDS:
        row[_KINDS.index(Kind(value))] = 1.0


def _created_at(row: NDArray[np.float32], value: int) -> None:
    _add_soft_bucket(row, 1970.0 + value / _SECONDS_A_YEAR, _YEARS)


def _add_hashed(row: NDArray[np.float32], weighted: Iterable[tuple[str, float]]) -> None:
    """Signed feature hashing (Weinberger et al. 2009), scaled to unit length."""
    for name, weight in weighted:
        digest = zlib.crc32(name.lower().encode("utf-8", "surrogatepass"))
        row[(digest >> 1) % len(row)] += weight if digest & 1 else -weight
    norm = float(np.linalg.norm(row))
    if norm > 0:
        row /= norm


def _add_soft_bucket(row: NDArray[np.float32], value: float, grid: NDArray[np.float64]) -> None:
    """Share a value between the two grid points around it, so that near values stay near."""
    place = float(np.clip(np.interp(value, grid, np.arange(len(grid))), 0, len(grid) - 1))
    low = min(int(place), len(grid) - 2)
    row[low], row[low + 1] = 1.0 - (place - low), place - low
    row /= np.linalg.norm(row)
