"""Batches and answers as arrays: MessagePack is read and written by compiled code (`compact.cpp`), without objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import Structure, addressof, byref, c_char_p, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from asterism.core.native import Function, function
from asterism.core.records import ACTION_CODES
from asterism.data.sequences import Sequences
from asterism.serving.ports import EngineAnswer

_SOURCE: Final = Path(__file__).with_name("compact.cpp")
#: The fewest bytes of a message that a request, an event and an excluded item take.
_REQUEST_BYTES, _EVENT_BYTES, _EXCLUDED_BYTES = 18, 7, 2
_ITEMS: Final = b"\xa5items\x90"  # how msgspec writes that an answer has none

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CompactBatch:
    """`messages.Batch` where no request asks for anything else."""

    body: bytes  # the message
    number: int
    beam: int | None
    histories: Sequences
    counts: Integers  # (rows,)
    deadlines: NDArray[np.float64]  # (rows,) infinite where there is none
    users: list[str | None]
    excluded: tuple[Integers, Integers]  # pairs of row and item, in order of rows


@runtime_checkable
class CompactEngine(Protocol):
    """An engine that reads batches from their messages and writes its answers itself."""

    def read(self, body: bytes) -> CompactBatch | None:
        """None where the message is none that can be read so."""
        ...

    def recommend_compact(self, batch: CompactBatch, wanted: Callable[[], bool]) -> bytes:
        """The answers as `messages.Reply` holds them; as `ElasticEngine.recommend_within` otherwise."""
        ...


class _Ids(Structure):
    _fields_ = (
        ("count", c_int64),
        ("slots", c_int64),
        *((name, c_void_p) for name in ("offsets", "text", "places", "tags")),
    )


class _Batch(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("most_rows", "most_events", "most_excluded")),
        *((name, c_int64) for name in ("number", "beam", "rows", "events", "excluded")),
        *((name, c_void_p) for name in ("offsets", "counts", "users", "user_lengths", "deadlines")),
        *((name, c_void_p) for name in ("items", "timestamps", "actions", "excluded_rows", "excluded_items")),
    )


class _Actions(Structure):
    _fields_ = (("count", c_int64), ("names", c_void_p), ("codes", c_void_p))


class _Answers(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("rows", "columns", "levels")),
        *((name, c_void_p) for name in ("counts", "items", "scores", "codes")),
        *((name, c_char_p) for name in ("head", "tail")),
        *((name, c_int64) for name in ("head_length", "tail_length")),
    )


class _Functions(NamedTuple):
    index_ids: Function
    read_batch: Function
    write_answers: Function


@cache
def _functions() -> _Functions | None:
    found = (
        function(_SOURCE, "index_ids", (c_void_p,)),
        function(_SOURCE, "read_batch", (c_char_p, c_int64, c_void_p, c_void_p, c_void_p), c_int64),
        function(_SOURCE, "write_answers", (c_void_p, c_void_p, c_void_p), c_int64),
    )
    return None if None in found else _Functions(*found)


class CompactMessages:
    """Reads batches and writes answers for one catalogue."""

    def __init__(self, ids: Sequence[str], paths: NDArray[np.integer], functions: _Functions) -> None:
        """`ids` and `paths` (N, levels) by item."""
        self._functions = functions
        texts = [one.encode() for one in ids]
        self._offsets = np.concatenate([[0], np.cumsum([len(one) for one in texts])]).astype(np.int64)
        self._longest = max(map(len, texts), default=0)
        self._text = b"".join(texts)
        slots = 1 << (2 * len(texts)).bit_length()
        self._places, self._tags = np.empty(slots, dtype=np.int32), np.empty(slots, dtype=np.uint32)
        at = (_at(self._offsets), _address(self._text), _at(self._places), _at(self._tags))
        self._ids = _Ids(len(texts), slots, *at)
        functions.index_ids(byref(self._ids))
        self._paths = np.ascontiguousarray(paths, dtype=np.int32)
        self._names = (c_char_p * len(ACTION_CODES))(*(name.encode() for name in ACTION_CODES))
        self._codes = np.array(list(ACTION_CODES.values()), dtype=np.int64)
        self._actions = _Actions(len(ACTION_CODES), addressof(self._names), _at(self._codes))
        self._head, self._tail = msgspec.msgpack.encode(EngineAnswer(())).split(_ITEMS)
        self._head += _ITEMS[:-1]

    @classmethod
    def of(cls, ids: Sequence[str], paths: NDArray[np.integer]) -> CompactMessages | None:
        """None where compiled code cannot be had."""
        functions = _functions()
        return None if functions is None else cls(ids, paths, functions)

    def read(self, body: bytes) -> CompactBatch | None:
        """None where the message is another one, or a request asks for more, or is not as it should be."""
        rows, events = len(body) // _REQUEST_BYTES + 1, len(body) // _EVENT_BYTES + 1
        excluded = len(body) // _EXCLUDED_BYTES + 1
        sizes = (rows + 1, rows, rows, rows, rows, events, events, events, excluded, excluded)
        stops = [*accumulate(sizes)]
        room = np.empty(stops[-1], dtype=np.int64)  # one for all: to make each by itself takes as long as to read
        at = _at(room)
        found = _Batch(rows, events, excluded, 0, 0, 0, 0, 0, at, *(at + 8 * stop for stop in stops[:-1]))
        arguments = (len(body), byref(self._ids), byref(self._actions), byref(found))
        if not self._functions.read_batch(body, *arguments):
            return None
        lengths = (found.rows + 1, *[found.rows] * 4, *[found.events] * 3, *[found.excluded] * 2)
        parts = [
            room[stop - size : stop - size + length] for stop, size, length in zip(stops, sizes, lengths, strict=True)
        ]
        offsets, counts, starts, ends, deadlines, items, timestamps, actions, *pairs = parts
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        try:
            users = [None if start < 0 else body[start : start + length].decode() for start, length in spans]
        except UnicodeDecodeError:
            return None
        return CompactBatch(
            body,
            found.number,
            found.beam or None,
            Sequences(offsets, items.view(np.int32)[: found.events], timestamps, actions.view(np.int8)[: found.events]),
            counts,
            deadlines.view(np.float64),
            users,
            (pairs[0], pairs[1]),
        )

    def written(self, counts: Integers, items: Integers, scores: NDArray[np.float32]) -> bytes:
        """Answers (rows, columns) of which each row gets so many; an item of -1 ends a row."""
        rows, columns = items.shape
        levels = self._paths.shape[1]
        a_row = len(self._head) + len(self._tail) + 5 + columns * (self._longest + 5 * levels + 20)
        to = np.empty(5 + rows * a_row, dtype=np.uint8)
        held = [np.ascontiguousarray(one) for one in (counts, items, scores)]
        answers = _Answers(
            rows,
            columns,
            levels,
            *map(_at, (*held, self._paths)),
            self._head,
            self._tail,
            len(self._head),
            len(self._tail),
        )
        size = self._functions.write_answers(byref(answers), byref(self._ids), _at(to))
        return to[:size].tobytes()


def _at(array: NDArray[Any]) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def _address(text: bytes) -> int | None:
    """Where bytes stand, for as long as they live."""
    return c_void_p.from_buffer(c_char_p(text)).value
