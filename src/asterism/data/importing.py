"""From raw tables to a checked data set and a summary of everything that was done to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from asterism.core import records
from asterism.core.errors import DataError
from asterism.data.columns import Rows
from asterism.data.dataset import Dataset
from asterism.data.raw import RawDataset, RawTable
from asterism.data.rejects import Finding, Rejects
from asterism.data.repeats import (
    backward_steps,
    codes_of,
    repeated_events,
    repeated_values,
    sort_by_time,
    unknown_values,
)
from asterism.data.schema import INTERACTIONS, ITEMS, USERS, Contract, TableName, items_known_by_id_only
from asterism.data.timestamps import TimestampUnit
from asterism.data.validation import check_table

SUMMARY_FILE = "import.json"
REPEATED_EVENT = "the event repeats an earlier one in every field that is kept"
_EXAMPLES = 5


@dataclass(slots=True)
class TableSummary:
    """What became of one table's rows."""

    files: list[str] = field(default_factory=list)
    rows_read: int = 0
    rows_kept: int = 0
    renamed_columns: dict[str, str] = field(default_factory=dict)
    ignored_columns: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ImportSummary:
    """All that an import read, kept, refused, moved and noticed."""

    format: str
    tables: dict[str, TableSummary] = field(default_factory=dict)
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    duplicate_events: int = 0  # rejected because they repeat an earlier row
    events_out_of_order: int = 0
    sorted_by_time: bool = False
    unknown_items: int = 0  # in interactions, not in the catalogue; kept, known by id only
    unknown_item_examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows_rejected(self) -> int:
        """Bad rows of all tables."""
        return sum(self.rejected_by_reason.values())

    def write(self, folder: Path) -> None:
        """Write the summary as JSON beside the tables."""
        text = json.dumps({**asdict(self), "rows_rejected": self.rows_rejected}, indent=2, ensure_ascii=False)
        (folder / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")


class Imported(NamedTuple):
    """A checked data set and how it came about."""

    dataset: Dataset
    summary: ImportSummary


class _Kept(NamedTuple):
    raw: RawTable
    rows: Rows  # of the raw table, ascending
    table: pa.Table


def import_dataset(raw: RawDataset, rejects: Rejects, unit: TimestampUnit | None = None) -> Imported:
    """Check all tables of a data set; each user's events end up in order of time, unknown items in the catalogue.

    Numbers that are timestamps are in `unit`, else in the format's own, else in seconds. Raises `DataError` naming the
    first bad rows, unless `rejects` sets them aside.
    """
    summary = ImportSummary(raw.format, notes=list(raw.notes))
    interactions = _import_table(raw.interactions, INTERACTIONS, rejects, unit, summary)
    if interactions is None or not interactions.num_rows:
        raise DataError("no interaction is left to learn from", file=_names(raw.interactions))
    items = _import_table(raw.items, ITEMS, rejects, unit, summary)
    users = _import_table(raw.users, USERS, rejects, unit, summary)
    interactions = _in_order(interactions, summary)
    items = _with_unknown_items(items, interactions, summary)
    summary.rejected_by_reason = dict(rejects.by_reason)
    summary.duplicate_events = rejects.by_reason[REPEATED_EVENT]
    return Imported(Dataset(interactions, items, users), summary)


def _import_table(
    raws: Sequence[RawTable], contract: Contract, rejects: Rejects, unit: TimestampUnit | None, summary: ImportSummary
) -> pa.Table | None:
    if not raws:
        return None
    report = summary.tables.setdefault(contract.name.value, TableSummary())
    kept = [_keep_good_rows(raw, contract, rejects, unit, report) for raw in raws]
    kept = _refuse_repeats(kept, contract, rejects)
    report.rows_kept = sum(one.table.num_rows for one in kept)
    summary.notes += [f"{one.raw.file}: {note}" for one in kept for note in one.raw.notes]
    return _joined(kept)


def _keep_good_rows(
    raw: RawTable, contract: Contract, rejects: Rejects, unit: TimestampUnit | None, report: TableSummary
) -> _Kept:
    checked = check_table(raw, contract, unit)
    keep = rejects.refuse(checked.raw, checked.findings)
    rejects.refuse_unreadable(checked.raw)
    report.files.append(raw.file)
    report.rows_read += raw.table.num_rows + len(raw.unreadable)
    report.renamed_columns |= checked.renamed
    report.ignored_columns += [name for name in checked.ignored if name not in report.ignored_columns]
    rows = np.flatnonzero(keep).astype(np.int64)
    table = checked.table if len(rows) == len(keep) else checked.table.filter(pa.array(keep))
    return _Kept(checked.raw, rows, table)


def _refuse_repeats(kept: list[_Kept], contract: Contract, rejects: Rejects) -> list[_Kept]:
    table = _joined(kept)
    if contract.key is None:
        repeats, field_name, reason = repeated_events(table), None, REPEATED_EVENT
    else:
        repeats, field_name = repeated_values(table[contract.key]), contract.key
        reason = f"the {contract.key} stood in an earlier row"
    if not len(repeats):
        return kept
    out, start = [], 0
    for one in kept:
        stop = start + one.table.num_rows
        here = repeats[(repeats >= start) & (repeats < stop)] - start
        rejects.refuse(one.raw, [Finding(field_name, reason, one.rows[here])])
        stays = np.ones(one.table.num_rows, dtype=bool)
        stays[here] = False
        out.append(_Kept(one.raw, one.rows[stays], one.table.filter(pa.array(stays))))
        start = stop
    return out


def _joined(kept: list[_Kept]) -> pa.Table:
    table = _concatenate([one.table for one in kept])
    if records.NANOSECONDS not in table.column_names:
        return table
    place = table.column_names.index(records.NANOSECONDS)  # of several files, not all may have them
    return table.set_column(place, records.NANOSECONDS, table[records.NANOSECONDS].fill_null(0))


def _concatenate(tables: list[pa.Table]) -> pa.Table:
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")


def _in_order(interactions: pa.Table, summary: ImportSummary) -> pa.Table:
    summary.events_out_of_order = backward_steps(interactions)
    summary.sorted_by_time = summary.events_out_of_order > 0
    return sort_by_time(interactions) if summary.sorted_by_time else interactions


def _with_unknown_items(items: pa.Table | None, interactions: pa.Table, summary: ImportSummary) -> pa.Table:
    _, touched = codes_of(interactions[records.ITEM_ID])
    if items is None:
        items = items_known_by_id_only(pa.array([], pa.string()))
    elif items.num_rows and len(unknown_values(touched, items[records.ITEM_ID])) == len(touched):
        summary.notes.append(
            "no event is about an item of the catalogue; check that both files write item ids alike "
            f"(events: {touched[0]}, catalogue: {items[records.ITEM_ID][0]})"
        )
    unknown = unknown_values(touched, items[records.ITEM_ID])
    if not len(unknown):
        return items
    summary.unknown_items = len(unknown)
    summary.unknown_item_examples = unknown.slice(0, _EXAMPLES).to_pylist()
    return _concatenate([items, items_known_by_id_only(unknown)]).combine_chunks()


def _names(raws: Sequence[RawTable]) -> str:
    return ", ".join(raw.file for raw in raws) or TableName.INTERACTIONS.value
