"""From a column as a file gave it to a typed one, and the rows whose value breaks the contract; no loop over rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.data.schema import EMBEDDING_TYPE

Rows = NDArray[np.int64]
TimestampUnit = Literal["s", "ms", "auto"]

#: Unix seconds reach this in the year 5138, Unix milliseconds in March 1973.
MILLISECONDS_FROM = 100_000_000_000
_MICROSECONDS_FROM = MILLISECONDS_FROM * 1000

TOO_LARGE = "the timestamp is not in Unix seconds but in milliseconds or finer"
TOO_SMALL = "the timestamp is too small for Unix milliseconds"

NOT_ISO = "the timestamp is no moment in ISO 8601, as most of the others are"
_ISO = r"^\s*\d{4}-\d{2}-\d{2}([T ]|\s*$)"
_CLOCK_FROM = 100_000_000  # Unix seconds reach this in March 1973; smaller numbers count something else

_WHOLE = r"^-?\d{1,18}$"
_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_LARGEST_EXACT_WHOLE = 2.0**53


class Parsed(NamedTuple):
    """A typed column, null where a value was bad, and the bad rows under their reasons."""

    values: pa.ChunkedArray
    bad: dict[str, Rows]


Parser = Callable[[pa.ChunkedArray], Parsed]


def rows_where(mask: pa.ChunkedArray) -> Rows:
    """The rows at which a boolean column is true, ascending; null counts as false."""
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy()).astype(np.int64)


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any column as text: whole numbers without a decimal point, lists joined by a space."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_text(column.cast(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pc.binary_join(column.cast(pa.list_(pa.string())), " ")
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), _LARGEST_EXACT_WHOLE))
        as_whole = pc.cast(pc.if_else(whole, column, None), pa.int64())
        return pc.coalesce(as_whole.cast(pa.string()), column.cast(pa.string()))
    return column if pa.types.is_string(kind) else column.cast(pa.string())


def parse_id(column: pa.ChunkedArray) -> Parsed:
    """Ids as text, compared letter by letter; an id is neither missing nor blank."""
    text = as_text(column)
    blank = pc.or_(pc.equal(text, ""), pc.utf8_is_space(text))
    return Parsed(text, _bad(("the id is empty", pc.fill_null(blank, True))))


def parse_text(column: pa.ChunkedArray) -> Parsed:
    """Free text; empty text is missing text."""
    return Parsed(_empty_to_null(as_text(column)), {})


def parse_number(column: pa.ChunkedArray, minimum: float | None = None) -> Parsed:
    """Finite numbers; an empty cell is a missing number."""
    values, unreadable = _numbers(column)
    checks = [
        ("the value is not a number", unreadable),
        ("the number is not finite", pc.invert(pc.is_finite(values))),
    ]
    if minimum is not None:
        checks.append((f"the number is below {minimum:g}", pc.less(values, minimum)))
    return Parsed(values, _bad(*checks))


def parse_timestamp(column: pa.ChunkedArray, unit: TimestampUnit = "s", required: bool = True) -> Parsed:
    """Unix seconds from numbers in `unit`, from ISO 8601 text or Arrow's own timestamps; `auto` tells the unit by size.

    Text is ISO where most of the column is; a moment without a zone is UTC. Fractions of a second are cut off
    where most of the column has them, and are bad elsewhere.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        seconds = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
        checks = [("the timestamp is missing", seconds.is_null())] if required else []
        return Parsed(seconds, _bad(*checks, ("the timestamp is negative", pc.less(seconds, 0))))
    values, broken = _whole_numbers(column)
    is_iso = _mostly(broken) and _is_mostly_iso(column)
    if is_iso:
        values, broken = _iso_seconds(as_text(column))
    elif _mostly(broken):
        values, broken = _clock_seconds(column, values, broken)
    missing = pc.and_(values.is_null(), pc.invert(broken))
    checks = [("the timestamp is missing", missing)] if required else []
    checks += [
        (NOT_ISO if is_iso else "the timestamp is not a whole number of Unix seconds", broken),
        ("the timestamp is negative", pc.less(values, 0)),
    ]
    if is_iso:
        return Parsed(values, _bad(*checks))
    if unit == "ms" or (unit == "auto" and _mostly(pc.greater_equal(values, MILLISECONDS_FROM))):
        checks.append((TOO_SMALL, pc.less(values, MILLISECONDS_FROM)))
        checks.append((TOO_LARGE, pc.greater_equal(values, _MICROSECONDS_FROM)))
        values = pc.divide(values, 1000)
    else:
        checks.append((TOO_LARGE, pc.greater_equal(values, MILLISECONDS_FROM)))
    return Parsed(values, _bad(*checks))


def parse_choice(
    column: pa.ChunkedArray,
    allowed: tuple[str, ...],
    default: str | None = None,
    synonyms: dict[str, str] | None = None,
) -> Parsed:
    """One of a few words, in any case; an empty cell becomes `default`."""
    text, words = _empty_to_null(as_text(column)), pa.array(allowed)
    if not pc.all(pc.is_in(text, words)).as_py():
        text = pc.utf8_lower(pc.utf8_trim_whitespace(text))
        for other, word in (synonyms or {}).items():
            text = pc.if_else(pc.equal(text, other), word, text)
    unknown = pc.and_(text.is_valid(), pc.invert(pc.is_in(text, words)))
    values = text if default is None else text.fill_null(default)
    return Parsed(values, _bad((f"the value is none of {', '.join(allowed)}", unknown)))


def parse_flag(column: pa.ChunkedArray) -> Parsed:
    """True or false, also written 1, 0, yes, no."""
    if pa.types.is_boolean(column.type):
        return Parsed(column, {})
    text = _empty_to_null(pc.utf8_lower(pc.utf8_trim_whitespace(as_text(column))))
    true = pc.is_in(text, pa.array(["true", "1", "yes"]))
    false = pc.is_in(text, pa.array(["false", "0", "no"]))
    known = pc.or_(true, false)
    values = pc.if_else(known, true, None)
    return Parsed(values, _bad(("the value is neither true nor false", pc.and_(text.is_valid(), pc.invert(known)))))


def parse_categories(column: pa.ChunkedArray) -> Parsed:
    """Lists of names, from lists or from text whose names are separated by `|`, else by commas."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return Parsed(column.cast(pa.list_(pa.string())), {})
    text = as_text(column)
    listed = pc.match_substring_regex(text, r"^\s*\[.*\]\s*$")
    text = pc.if_else(listed, pc.replace_substring_regex(text, r"""[\[\]"']""", ""), text)
    barred = pc.if_else(pc.match_substring(text, "|"), text, pc.replace_substring(text, ",", "|"))
    barred = pc.replace_substring_regex(barred, r"\s*\|[\s|]*", "|")
    barred = _empty_to_null(pc.utf8_trim_whitespace(pc.utf8_trim(barred, "| ")))
    return Parsed(pc.split_pattern(barred, "|"), {})


def parse_embedding(column: pa.ChunkedArray) -> Parsed:
    """Vectors of one width, from lists or from text such as `[0.1, 0.2]`; an empty vector is a missing one."""
    vectors, unreadable = _vectors(column)
    vectors = pc.if_else(pc.equal(pc.list_value_length(vectors), 0), None, vectors)
    widths = pc.list_value_length(vectors)
    usual = pc.mode(widths)
    wrong = pc.not_equal(widths, usual[0]["mode"]) if len(usual) else widths.is_valid()
    bad = _bad(("the vector holds something else than numbers", unreadable), _width_check(wrong, usual))
    not_finite = _rows_not_finite(vectors)
    return Parsed(
        vectors, bad | ({"the vector holds a number that is not finite": not_finite} if len(not_finite) else {})
    )


def _rows_not_finite(vectors: pa.ChunkedArray) -> Rows:
    whole = vectors.combine_chunks()
    broken = pc.invert(pc.fill_null(pc.is_finite(pc.list_flatten(whole)), False))
    return np.unique(pc.list_parent_indices(whole).filter(broken).to_numpy()).astype(np.int64)


def _width_check(wrong: pa.ChunkedArray, usual: pa.Array) -> tuple[str, pa.ChunkedArray]:
    width = usual[0]["mode"].as_py() if len(usual) else 0
    return f"the vector's width is not {width}, which is that of the others", wrong


def _vectors(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    if not pa.types.is_string(column.type):
        return column.cast(EMBEDDING_TYPE), _none(column)
    inner = pc.utf8_trim(as_text(column), "[]() \t\n")
    inner = _empty_to_null(pc.replace_substring_regex(inner, r"[,;\s]+", ","))
    number = _NUMBER.strip("^$")
    good = pc.match_substring_regex(inner, f"^(?:{number})(?:,(?:{number}))*$")
    unreadable = pc.and_(inner.is_valid(), pc.invert(good))
    return pc.split_pattern(pc.if_else(good, inner, None), ",").cast(EMBEDDING_TYPE), unreadable


def _bad(*checks: tuple[str, pa.ChunkedArray]) -> dict[str, Rows]:
    found = {reason: rows_where(mask) for reason, mask in checks}
    return {reason: rows for reason, rows in found.items() if len(rows)}


def _empty_to_null(text: pa.ChunkedArray) -> pa.ChunkedArray:
    empty = pc.equal(text, "")
    return pc.if_else(empty, None, text) if pc.any(empty).as_py() else text


def _mostly(mask: pa.ChunkedArray) -> bool:
    return 2 * int(pc.sum(mask).as_py() or 0) > len(mask)


def _none(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([np.zeros(len(column), dtype=bool)])


def _numbers(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.float64()), _none(column)
    text = _empty_to_null(as_text(column))
    try:
        return text.cast(pa.float64()), _none(column)
    except pa.ArrowInvalid:
        trimmed = _empty_to_null(pc.utf8_trim_whitespace(text))
        good = pc.fill_null(pc.match_substring_regex(trimmed, _NUMBER), False)
        return pc.if_else(good, trimmed, None).cast(pa.float64()), pc.and_(trimmed.is_valid(), pc.invert(good))


def _whole_numbers(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64()), _none(column)
    if pa.types.is_floating(column.type):
        return _whole_floats(column, _none(column))
    text = _empty_to_null(as_text(column))
    try:
        return text.cast(pa.int64()), _none(column)
    except pa.ArrowInvalid:
        trimmed = _empty_to_null(pc.utf8_trim_whitespace(text))
        whole = pc.match_substring_regex(trimmed, _WHOLE)
        exact = pc.if_else(whole, trimmed, None).cast(pa.int64())
        others, broken = _whole_floats(*_numbers(pc.if_else(whole, None, trimmed)))
        return pc.coalesce(exact, others), broken


def _clock_seconds(
    column: pa.ChunkedArray, values: pa.ChunkedArray, broken: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Numbers with their fractions cut off, where they are what a clock writes; else what they were read as before."""
    numbers, unreadable = _numbers(column)
    if not _mostly(pc.greater_equal(numbers, _CLOCK_FROM)):
        return values, broken
    good = pc.fill_null(pc.less(pc.abs(numbers), _LARGEST_EXACT_WHOLE), False)
    floors = pc.floor(pc.if_else(good, numbers, None)).cast(pa.int64())
    return floors, pc.or_(unreadable, pc.and_(numbers.is_valid(), pc.invert(good)))


def _is_mostly_iso(column: pa.ChunkedArray) -> bool:
    return _mostly(pc.match_substring_regex(as_text(column), _ISO))


def _iso_seconds(text: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    text = _empty_to_null(pc.utf8_trim_whitespace(text))
    distinct = text.unique()
    seconds = pa.array([None if one is None else _moment(one) for one in distinct.to_pylist()], pa.int64())
    values = pc.take(seconds, pc.index_in(text, distinct))
    return values, pc.and_(text.is_valid(), values.is_null())


def _moment(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def _whole_floats(numbers: pa.ChunkedArray, broken: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    numbers = numbers.cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), _LARGEST_EXACT_WHOLE))
    fractional = pc.and_(numbers.is_valid(), pc.invert(pc.fill_null(whole, False)))
    return pc.if_else(whole, numbers, None).cast(pa.int64()), pc.or_(broken, fractional)
