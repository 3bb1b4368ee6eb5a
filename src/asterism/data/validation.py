"""Checks a raw table against its contract: every column typed, every bad row found, nothing decided yet."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from asterism.core import records
from asterism.core.errors import DataError
from asterism.core.progress import track
from asterism.data import columns, timestamps
from asterism.data.aliases import is_rating_log, rename_columns
from asterism.data.columns import Parsed, Parser, Rows
from asterism.data.extra_columns import holds_bytes, parse_extra
from asterism.data.raw import RawTable
from asterism.data.rejects import Finding
from asterism.data.schema import Contract, TableName
from asterism.data.timestamps import TimestampUnit

SPLITS = ("train", "validation", "test")
SPLIT_SYNONYMS = {"valid": "validation", "val": "validation", "dev": "validation", "training": "train"}

NOT_UTF8 = "the value is not UTF-8"


class Checked(NamedTuple):
    """A typed table with all rows of its raw table, and what is wrong with some of them."""

    raw: RawTable  # under canonical column names
    table: pa.Table
    findings: tuple[Finding, ...]
    renamed: dict[str, str]
    ignored: tuple[str, ...]  # columns that the contract has no place for


def check_table(raw: RawTable, contract: Contract, unit: TimestampUnit | None = None) -> Checked:
    """Type a raw table and find its bad rows.

    Raises `DataError` where a whole file is wrong: a column missing, no rows, timestamps in another unit.
    """
    if not raw.table.num_rows and not raw.unreadable:
        raise DataError("the file holds no rows", file=raw.file)
    table, renamed = rename_columns(raw.table, contract, raw.file)
    raw = raw.with_table(table)
    bytes_only = [name for name in table.column_names if _is_left_out(name, table, contract)]
    for name in bytes_only if contract.keeps_extra_columns else ():
        raw = raw.with_note(f"the column `{name}` holds bytes that are no text and was left out")
    decoded, findings = _decode(table.drop_columns(bytes_only))
    typed: dict[str, pa.ChunkedArray] = {}
    for name in track(contract.schema.names, f"checking {contract.name}"):
        if name in decoded.column_names:
            parser = _parser_of(name, contract.name, unit or raw.timestamp_unit or "s", is_rating_log(renamed))
            parsed = _apply(parser, decoded, name, raw, findings)
            typed[name] = parsed.values
            if name == records.TIMESTAMP and parsed.nanoseconds is not None:
                typed[records.NANOSECONDS] = parsed.nanoseconds
    extra = [name for name in decoded.column_names if name not in typed]
    if contract.keeps_extra_columns:
        typed |= {name: _apply(partial(parse_extra, name=name), decoded, name, raw, findings).values for name in extra}
        extra = []
    ignored = (*extra, *bytes_only)
    if contract.name is TableName.INTERACTIONS:
        _fill_interactions(typed, raw.table.num_rows, is_rating_log(renamed))
    _require_seconds(raw, findings)
    order = [*(name for name in contract.schema.names if name in typed), *typed]
    return Checked(raw, pa.table({name: typed[name] for name in order}), tuple(findings), renamed, ignored)


def _parser_of(name: str, table: TableName, unit: TimestampUnit, is_rating: bool) -> Parser:
    default_action = records.Action.RATING if is_rating else records.Action.CLICK
    parsers: dict[str, Parser] = {
        records.USER_ID: columns.parse_id,
        records.ITEM_ID: columns.parse_id,
        records.TIMESTAMP: partial(timestamps.parse_timestamp, unit=unit),
        records.NANOSECONDS: timestamps.parse_nanoseconds,
        records.ACTION: partial(
            columns.parse_choice, allowed=tuple(records.ACTION_CODES), default=default_action.value
        ),
        records.VALUE: columns.parse_number,
        records.SPLIT: partial(columns.parse_choice, allowed=SPLITS, synonyms=SPLIT_SYNONYMS),
        records.CATEGORIES: columns.parse_categories,
        records.PRICE: partial(columns.parse_number, minimum=0.0),
        records.KIND: partial(columns.parse_choice, allowed=tuple(kind.value for kind in records.Kind)),
        records.CREATED_AT: partial(timestamps.parse_timestamp, unit="auto" if unit == "ms" else unit, of_event=False),
        records.AVAILABLE: columns.parse_flag,
    }
    return parsers.get(name, columns.parse_text)


def _apply(parser: Parser, table: pa.Table, name: str, raw: RawTable, findings: list[Finding]) -> Parsed:
    try:
        parsed = parser(table[name])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        reason = f"a column of type {table[name].type} cannot be read as this field ({error}); convert it"
        raise DataError(reason, file=raw.file, field=name) from error
    findings.extend(Finding(name, reason, rows) for reason, rows in parsed.bad.items())
    return parsed


def _is_left_out(name: str, table: pa.Table, contract: Contract) -> bool:
    known = name in contract.schema.names or name.startswith(records.EMBEDDING_PREFIX)
    return not known and holds_bytes(table[name])


def _decode(table: pa.Table) -> tuple[pa.Table, list[Finding]]:
    """Bytes as text; a cell that is not UTF-8 becomes a finding."""
    findings: list[Finding] = []
    for position, name in enumerate(table.column_names):
        column = table[name]
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            try:
                text = column.cast(pa.string())
            except pa.ArrowInvalid:
                text, rows = _decode_one_by_one(column)
                findings.append(Finding(name, NOT_UTF8, rows))
            table = table.set_column(position, name, text)
    return table, findings


def _decode_one_by_one(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, Rows]:
    bad: list[int] = []
    texts: list[str | None] = []
    for row, value in enumerate(column.to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            bad.append(row)
            texts.append(value.decode("utf-8", "replace"))
    return pa.chunked_array([pa.array(texts, pa.string())]), np.array(bad, dtype=np.int64)


def _fill_interactions(typed: dict[str, pa.ChunkedArray], rows: int, is_rating: bool) -> None:
    if records.ACTION not in typed:
        action = records.Action.RATING if is_rating else records.Action.CLICK
        typed[records.ACTION] = pa.chunked_array([pa.repeat(action.value, rows)])
    if records.VALUE not in typed:
        typed[records.VALUE] = pa.chunked_array([pa.nulls(rows, pa.float64())])


def _require_seconds(raw: RawTable, findings: list[Finding]) -> None:
    """Timestamps that are mostly in another unit are a fault of the file, not of its rows."""
    for finding in findings:
        wrong_unit = finding.reason in (timestamps.TOO_LARGE, timestamps.TOO_SMALL)
        if wrong_unit and 2 * len(finding.rows) > raw.table.num_rows:
            given = raw.table[finding.field][int(finding.rows[0])].as_py()
            shown = given.decode() if isinstance(given, bytes) else given
            line = int(raw.lines_of(finding.rows[:1])[0])
            reason = _other_unit(shown, finding.reason == timestamps.TOO_LARGE)
            raise DataError(reason, file=raw.file, line=line, field=finding.field)


def _other_unit(shown: str | float, too_large: bool) -> str:
    wanted = "the contract wants Unix seconds"
    if not too_large:
        advice = "import the file with `--timestamps-unit s`, or `auto`"
        return f"timestamps are too small to be milliseconds ({shown}); {advice}"
    if abs(float(shown)) >= timestamps.MICROSECONDS_FROM:
        return f"timestamps are in microseconds or finer ({shown}), {wanted}; divide them by 1,000,000 or more"
    advice = "import the file with `asterism data import --timestamps-unit ms`, or divide them by 1000"
    return f"timestamps are in milliseconds ({shown}), {wanted}; {advice}"
