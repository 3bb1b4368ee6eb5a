"""What happens to a bad row: the import stops at it, or it is written down with its place and reason."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asterism.core.errors import DataError
from asterism.data.columns import Rows
from asterism.data.raw import RawTable

OnError = Literal["stop", "reject"]

REJECTS_FILE = "rejects.jsonl"
_EXAMPLES = 5
_BATCH_ROWS = 10_000


class Finding(NamedTuple):
    """Rows of one raw table that break the contract in one way."""

    field: str | None
    reason: str
    rows: Rows


class BadRow(NamedTuple):
    """One bad row, as it is reported."""

    file: str
    line: int
    field: str | None
    reason: str
    row: dict[str, object] | str

    def sentence(self) -> str:
        """The reason, with the value that was found."""
        if self.field is None or isinstance(self.row, str):
            return self.reason
        return f"{self.reason}; it is {_shown(self.row.get(self.field))}"


class Rejects:
    """Decides about bad rows; with `reject` it writes them to a file of JSON lines and counts them by reason."""

    def __init__(self, on_error: OnError = "stop", file: Path | None = None) -> None:
        if on_error == "reject" and file is None:
            raise ValueError("rejected rows need a file to be written to")
        self._on_error = on_error
        self.file = file
        self.by_reason: Counter[str] = Counter()
        if file is not None:
            file.unlink(missing_ok=True)

    def refuse(self, raw: RawTable, findings: Iterable[Finding]) -> NDArray[np.bool_]:
        """Which rows of a raw table may stay; raises `DataError` naming the first bad rows when it stops."""
        first = _first_findings(raw.table.num_rows, tuple(findings))
        keep = np.ones(raw.table.num_rows, dtype=bool)
        if first is None:
            return keep
        keep[first.finding_of_row >= 0] = False
        bad = np.flatnonzero(~keep).astype(np.int64)
        if not len(bad):
            return keep
        if self._on_error == "stop":
            named = _bad_rows(raw, bad[:_EXAMPLES], first)
            _stop([*named, *_unreadable(raw)], len(bad) + len(raw.unreadable))
        self._write(_bad_rows(raw, bad, first))
        return keep

    def refuse_unreadable(self, raw: RawTable) -> None:
        """Deal with the lines of a file that are not even rows."""
        if raw.unreadable:
            if self._on_error == "stop":
                _stop(_unreadable(raw), len(raw.unreadable))
            self._write(_unreadable(raw))

    def _write(self, rows: Iterable[BadRow]) -> None:
        assert self.file is not None
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as stream:
            for one in rows:
                self.by_reason[one.reason] += 1
                named = {"file": one.file, "line": one.line, "field": one.field, "reason": one.sentence()}
                stream.write(json.dumps({**named, "row": one.row}, ensure_ascii=False, default=_as_json) + "\n")


class _First(NamedTuple):
    finding_of_row: NDArray[np.int64]  # (rows,) the first finding about a row, -1 where there is none
    findings: tuple[Finding, ...]


def _first_findings(rows: int, findings: tuple[Finding, ...]) -> _First | None:
    if not findings:
        return None
    index = np.full(rows, -1, dtype=np.int64)
    for number in reversed(range(len(findings))):
        index[findings[number].rows] = number
    return _First(index, findings)


def _bad_rows(raw: RawTable, rows: Rows, first: _First) -> Iterator[BadRow]:
    mask = np.zeros(raw.table.num_rows, dtype=bool)
    mask[rows] = True
    contents = (row for batch in raw.table.filter(pa.array(mask)).to_batches(_BATCH_ROWS) for row in batch.to_pylist())
    found = (first.findings[number] for number in first.finding_of_row[rows])
    for line, finding, content in zip(raw.lines_of(rows), found, contents, strict=True):
        yield BadRow(raw.file, int(line), finding.field, finding.reason, _decoded(content))


def _unreadable(raw: RawTable) -> list[BadRow]:
    return [BadRow(raw.file, one.line, None, one.reason, one.text) for one in raw.unreadable]


def _stop(rows: list[BadRow], total: int) -> None:
    rows = sorted(rows, key=lambda one: one.line)
    one = rows[0]
    others = ", ".join(_place(other, one.reason) for other in rows[1:_EXAMPLES])
    more = f"; {total - 1} more bad rows, such as {others}" if others else ""
    advice = "mend the file, or set bad rows aside with `asterism data import --on-error reject`"
    raise DataError(f"{one.sentence()}{more}; {advice}", file=one.file, line=one.line, field=one.field)


def _place(row: BadRow, said: str) -> str:
    return f"line {row.line}" if row.reason == said else f"line {row.line} ({row.reason})"


def _decoded(row: dict[str, object]) -> dict[str, object]:
    return {name: _readable(value) for name, value in row.items()}


def _readable(value: object) -> object:
    """A value that JSON can hold and a person can read."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _as_json(value: object) -> str:
    return str(value)
