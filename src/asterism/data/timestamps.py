"""Unix seconds from whatever a file writes its moments as, and the parts of a second that they leave out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from asterism.data.columns import (
    LARGEST_EXACT_WHOLE,
    Parsed,
    as_text,
    bad_rows,
    empty_to_null,
    mostly,
    numbers,
    whole_numbers,
)

TimestampUnit = Literal["s", "ms", "auto"]

#: Unix seconds reach this in the year 5138, Unix milliseconds in March 1973.
MILLISECONDS_FROM = 100_000_000_000
MICROSECONDS_FROM = MILLISECONDS_FROM * 1000

TOO_LARGE = "the timestamp is not in Unix seconds but in milliseconds or finer"
TOO_SMALL = "the timestamp is too small for Unix milliseconds"

NOT_ISO = "the timestamp is no moment in ISO 8601, as most of the others are"
_NOT_WHOLE = "the timestamp is not a whole number of Unix seconds"
_NOT_NANOSECONDS = "the value is not between 0 and 999,999,999"
_ISO = r"^\s*\d{4}-\d{2}-\d{2}([T ]|\s*$)"
_CLOCK_FROM = 100_000_000  # Unix seconds reach this in March 1973; smaller numbers count something else

_NANOSECONDS = 1_000_000_000
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": _NANOSECONDS}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Counted(NamedTuple):
    """Moments as whole units since 1970, null where there is none that can be read."""

    units: pa.ChunkedArray  # int64
    per_second: int
    rest: pa.ChunkedArray | None = None  # of one unit, from 0 up to 1, where the column has fractions
    unreadable: tuple[tuple[str, pa.ChunkedArray], ...] = ()
    unlikely: tuple[tuple[str, pa.ChunkedArray], ...] = ()  # of a size that speaks for another unit


def parse_timestamp(column: pa.ChunkedArray, unit: TimestampUnit = "s", of_event: bool = True) -> Parsed:
    """Unix seconds from numbers in `unit`, from ISO 8601 text or Arrow's own timestamps; `auto` tells the unit by size.

    Text is ISO where most of the column is; a moment without a zone is UTC. Fractions of a second come apart; numbers
    may have them where most of the column has. The moment `of_event` is neither missing nor before 1970.
    """
    is_moment = pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
    counted = _arrow_units(column) if is_moment else _counted(column, unit)
    missing = counted.units.is_null()
    for _, mask in counted.unreadable:
        missing = pc.and_(missing, pc.invert(mask))
    checks = list(counted.unreadable)
    if of_event:
        negative = pc.less(counted.units, 0)
        checks = [("the timestamp is missing", missing), *checks, ("the timestamp is negative", negative)]
    seconds = _floor_divided(counted.units, counted.per_second)
    return Parsed(seconds, bad_rows(*checks, *counted.unlikely), _nanoseconds(counted, seconds))


def parse_nanoseconds(column: pa.ChunkedArray) -> Parsed:
    """The part of a second that a timestamp leaves out; an empty cell is none."""
    values, broken = whole_numbers(column)
    wrong = pc.or_(broken, pc.fill_null(pc.or_(pc.less(values, 0), pc.greater_equal(values, _NANOSECONDS)), False))
    kept = pc.if_else(wrong, None, values).cast(pa.int32())
    return Parsed(kept.fill_null(0), bad_rows((_NOT_NANOSECONDS, wrong)))


def _arrow_units(column: pa.ChunkedArray) -> _Counted:
    moments = column if pa.types.is_timestamp(column.type) else column.cast(pa.timestamp("ms"))
    return _Counted(moments.cast(pa.int64()), _PER_SECOND[moments.type.unit])


def _counted(column: pa.ChunkedArray, unit: TimestampUnit) -> _Counted:
    units, broken = whole_numbers(column)
    if mostly(broken) and mostly(pc.match_substring_regex(as_text(column), _ISO)):
        units, broken = _iso_microseconds(as_text(column))
        return _Counted(units, _PER_SECOND["us"], unreadable=((NOT_ISO, broken),))
    rest = None
    if mostly(broken):
        units, broken, rest = _clock(column, units, broken)
    unreadable = ((_NOT_WHOLE, broken),)
    size = pc.abs(units)
    too_large = pc.greater_equal(size, MILLISECONDS_FROM)
    if unit == "s" or (unit == "auto" and not mostly(too_large)):
        return _Counted(units, _PER_SECOND["s"], rest, unreadable, ((TOO_LARGE, too_large),))
    too_small, too_large = pc.less(size, MILLISECONDS_FROM), pc.greater_equal(size, MICROSECONDS_FROM)
    return _Counted(units, _PER_SECOND["ms"], rest, unreadable, ((TOO_SMALL, too_small), (TOO_LARGE, too_large)))


def _clock(
    column: pa.ChunkedArray, units: pa.ChunkedArray, broken: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.ChunkedArray | None]:
    """Numbers and their fractions apart, where they are what a clock writes; else what they were read as before."""
    values, unreadable = numbers(column)
    if not mostly(pc.greater_equal(values, _CLOCK_FROM)):
        return units, broken, None
    good = pc.fill_null(pc.less(pc.abs(values), LARGEST_EXACT_WHOLE), False)
    broken = pc.or_(unreadable, pc.and_(values.is_valid(), pc.invert(good)))
    values = pc.if_else(good, values, None)
    floors = pc.floor(values)
    return floors.cast(pa.int64()), broken, pc.subtract(values, floors)


def _iso_microseconds(text: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    text = empty_to_null(pc.utf8_trim_whitespace(text))
    distinct = text.unique()
    moments = pa.array([None if one is None else _microseconds(one) for one in distinct.to_pylist()], pa.int64())
    values = pc.take(moments, pc.index_in(text, distinct))
    return values, pc.and_(text.is_valid(), values.is_null())


def _microseconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _floor_divided(values: pa.ChunkedArray, by: int) -> pa.ChunkedArray:
    if by == 1:
        return values
    towards_zero = pc.divide(values, by)
    below = pc.less(values, pc.multiply(towards_zero, by))
    return pc.subtract(towards_zero, below.cast(pa.int64()))


def _nanoseconds(counted: _Counted, seconds: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """(rows,) int32, or None where every moment is a whole second."""
    if counted.per_second == 1 and counted.rest is None:
        return None
    each = _NANOSECONDS // counted.per_second
    parts = pc.multiply(pc.subtract(counted.units, pc.multiply(seconds, counted.per_second)), each)
    if counted.rest is not None:  # a float64 of this size knows a quarter of a microsecond at best
        microseconds = pc.round(pc.multiply(counted.rest, each / 1_000)).cast(pa.int64())
        parts = pc.add(parts, pc.multiply(pc.min_element_wise(microseconds, each // 1_000 - 1), 1_000))
    parts = parts.fill_null(0)
    return parts.cast(pa.int32()) if pc.any(pc.not_equal(parts, 0)).as_py() else None
