"""From a column as a file gave it to a typed one, and the rows whose value breaks the contract; no loop over rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.data.schema import EMBEDDING_TYPE

Rows = NDArray[np.int64]

_WHOLE = r"^-?\d{1,18}$"
_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
LARGEST_EXACT_WHOLE = 2.0**53


class Parsed(NamedTuple):
    """A typed column, null where a value was bad, and the bad rows under their reasons."""

    values: pa.ChunkedArray
    bad: dict[str, Rows]
    nanoseconds: pa.ChunkedArray | None = None  # of a timestamp: what its whole seconds leave out, if anything


Parser = Callable[[pa.ChunkedArray], Parsed]


def rows_where(mask: pa.ChunkedArray) -> Rows:
    """The rows at which a boolean column is true, ascending; null counts as false."""
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy()).astype(np.int64)


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any column as text: whole numbers without a decimal point, NaN as none, lists joined by a space."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_text(column.cast(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pc.binary_join(column.cast(pa.list_(pa.string())), " ")
    if pa.types.is_floating(kind):
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), LARGEST_EXACT_WHOLE))
        as_whole = pc.cast(pc.if_else(whole, column, None), pa.int64())
        others = pc.if_else(pc.is_nan(column), None, column)
        return pc.coalesce(as_whole.cast(pa.string()), others.cast(pa.string()))
    return column if pa.types.is_string(kind) else column.cast(pa.string())


def parse_id(column: pa.ChunkedArray) -> Parsed:
    """Ids as text, compared letter by letter; an id is neither missing nor blank."""
    text = as_text(column)
    blank = pc.or_(pc.equal(text, ""), pc.utf8_is_space(text))
    return Parsed(text, bad_rows(("the id is empty", pc.fill_null(blank, True))))


def parse_text(column: pa.ChunkedArray) -> Parsed:
    """Free text; empty text is missing text."""
    return Parsed(empty_to_null(as_text(column)), {})


def parse_number(column: pa.ChunkedArray, minimum: float | None = None) -> Parsed:
    """Finite numbers; an empty cell is a missing number."""
    values, unreadable = numbers(column)
    checks = [
        ("the value is not a number", unreadable),
        ("the number is not finite", pc.invert(pc.is_finite(values))),
    ]
    if minimum is not None:
        checks.append((f"the number is below {minimum:g}", pc.less(values, minimum)))
    return Parsed(values, bad_rows(*checks))


def parse_choice(
    column: pa.ChunkedArray,
    allowed: tuple[str, ...],
    default: str | None = None,
    synonyms: dict[str, str] | None = None,
) -> Parsed:
    """One of a few words, in any case; an empty cell becomes `default`."""
    text, words = empty_to_null(as_text(column)), pa.array(allowed)
    if not pc.all(pc.is_in(text, words)).as_py():
        text = pc.utf8_lower(pc.utf8_trim_whitespace(text))
        for other, word in (synonyms or {}).items():
            text = pc.if_else(pc.equal(text, other), word, text)
    unknown = pc.and_(text.is_valid(), pc.invert(pc.is_in(text, words)))
    values = text if default is None else text.fill_null(default)
    return Parsed(values, bad_rows((f"the value is none of {', '.join(allowed)}", unknown)))


def parse_flag(column: pa.ChunkedArray) -> Parsed:
    """True or false, also written 1, 0, yes, no."""
    if pa.types.is_boolean(column.type):
        return Parsed(column, {})
    text = empty_to_null(pc.utf8_lower(pc.utf8_trim_whitespace(as_text(column))))
    true = pc.is_in(text, pa.array(["true", "1", "yes"]))
    false = pc.is_in(text, pa.array(["false", "0", "no"]))
    known = pc.or_(true, false)
    values = pc.if_else(known, true, None)
    return Parsed(values, bad_rows(("the value is neither true nor false", pc.and_(text.is_valid(), pc.invert(known)))))


def parse_categories(column: pa.ChunkedArray) -> Parsed:
    """Lists of names, from lists or from text whose names are separated by `|`, else by commas."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return Parsed(column.cast(pa.list_(pa.string())), {})
    text = as_text(column)
    listed = pc.match_substring_regex(text, r"^\s*\[.*\]\s*$")
    text = pc.if_else(listed, pc.replace_substring_regex(text, r"""[\[\]"']""", ""), text)
    barred = pc.if_else(pc.match_substring(text, "|"), text, pc.replace_substring(text, ",", "|"))
    barred = pc.replace_substring_regex(barred, r"\s*\|[\s|]*", "|")
    barred = empty_to_null(pc.utf8_trim_whitespace(pc.utf8_trim(barred, "| ")))
    return Parsed(pc.split_pattern(barred, "|"), {})


def parse_embedding(column: pa.ChunkedArray) -> Parsed:
    """Vectors of one width, from lists or from text such as `[0.1, 0.2]`; an empty vector is a missing one."""
    vectors, unreadable = _vectors(column)
    vectors = pc.if_else(pc.equal(pc.list_value_length(vectors), 0), None, vectors)
    widths = pc.list_value_length(vectors)
    usual = pc.mode(widths)
    wrong = pc.not_equal(widths, usual[0]["mode"]) if len(usual) else widths.is_valid()
    bad = bad_rows(("the vector holds something else than numbers", unreadable), _width_check(wrong, usual))
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
    inner = empty_to_null(pc.replace_substring_regex(inner, r"[,;\s]+", ","))
    number = _NUMBER.strip("^$")
    good = pc.match_substring_regex(inner, f"^(?:{number})(?:,(?:{number}))*$")
    unreadable = pc.and_(inner.is_valid(), pc.invert(good))
    return pc.split_pattern(pc.if_else(good, inner, None), ",").cast(EMBEDDING_TYPE), unreadable


def bad_rows(*checks: tuple[str, pa.ChunkedArray]) -> dict[str, Rows]:
    """Under each reason the rows at which its mask is true; reasons without a row are left out."""
    found = {reason: rows_where(mask) for reason, mask in checks}
    return {reason: rows for reason, rows in found.items() if len(rows)}


def empty_to_null(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without empty cells."""
    empty = pc.equal(text, "")
    return pc.if_else(empty, None, text) if pc.any(empty).as_py() else text


def mostly(mask: pa.ChunkedArray) -> bool:
    """Whether a mask is true in more than half of all rows."""
    return 2 * int(pc.sum(mask).as_py() or 0) > len(mask)


def _none(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([np.zeros(len(column), dtype=bool)])


def numbers(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """A column as float64, and a mask of the cells that are filled but are no number."""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.float64()), _none(column)
    text = empty_to_null(as_text(column))
    try:
        return text.cast(pa.float64()), _none(column)
    except pa.ArrowInvalid:
        trimmed = empty_to_null(pc.utf8_trim_whitespace(text))
        good = pc.fill_null(pc.match_substring_regex(trimmed, _NUMBER), False)
        return pc.if_else(good, trimmed, None).cast(pa.float64()), pc.and_(trimmed.is_valid(), pc.invert(good))


def whole_numbers(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """A column as int64 with every digit kept, and a mask of the cells that are filled but are no whole number."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64()), _none(column)
    if pa.types.is_floating(column.type):
        return _whole_floats(column, _none(column))
    text = empty_to_null(as_text(column))
    try:
        return text.cast(pa.int64()), _none(column)
    except pa.ArrowInvalid:
        trimmed = empty_to_null(pc.utf8_trim_whitespace(text))
        whole = pc.match_substring_regex(trimmed, _WHOLE)
        exact = pc.if_else(whole, trimmed, None).cast(pa.int64())
        others, broken = _whole_floats(*numbers(pc.if_else(whole, None, trimmed)))
        return pc.coalesce(exact, others), broken


def _whole_floats(numbers: pa.ChunkedArray, broken: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    numbers = numbers.cast(pa.float64())
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), LARGEST_EXACT_WHOLE))
    fractional = pc.and_(numbers.is_valid(), pc.invert(pc.fill_null(whole, False)))
    return pc.if_else(whole, numbers, None).cast(pa.int64()), pc.or_(broken, fractional)
