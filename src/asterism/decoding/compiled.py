"""A beam search by compiled code (`search.cpp`); `candidates`, `admission` and `steps` say the same in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from ctypes import (
    CFUNCTYPE,
    PYFUNCTYPE,
    Structure,
    addressof,
    byref,
    c_int,
    c_int64,
    c_ssize_t,
    c_void_p,
    py_object,
    pythonapi,
)
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import AbandonedError
from asterism.core.native import Function, function
from asterism.decoding.candidates import Scores
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.selection import no_number
from asterism.decoding.sieve import sieve_of
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.steps import dead_end, next_log_probs
from asterism.decoding.trie_layout import Indices
from asterism.models.policy import NativeScorer, Policy, ScoresNatively, ScoresSteps

_SOURCE: Final = Path(__file__).with_name("search.cpp")
_SCORE: Final = CFUNCTYPE(c_int64, c_void_p, *[c_int64] * 3, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p)
_WANTED: Final = CFUNCTYPE(c_int64)
#: A view of memory; unlike an array of ctypes it makes no type for each size.
_memory: Final = PYFUNCTYPE(py_object, c_void_p, c_ssize_t, c_int)(("PyMemoryView_FromMemory", pythonapi))
_WRITABLE: Final = 0x200
_SETTLED, _ABANDONED, _NO_NUMBER, _DEAD_END, _FAILED = 1, 2, 3, 4, 5


@cache
def _search() -> Function | None:
    return function(_SOURCE, "beam_search", [c_void_p] * 7, c_int64)


def is_compiled() -> bool:
    """Whether searches are done by compiled code."""
    return _search() is not None


class _Trie(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("levels", "head", "node_bitmaps")),
        *((name, c_void_p) for name in ("sizes", "heads", "node_table", "bases", "counts", "bits", "items", "starts")),
        *((name, c_void_p) for name in ("codes", "code_bytes", "item_table", "item_states", "item_codes")),
        *((name, c_int64) for name in ("item_code_bytes", "known_items")),
    )


class _Filter(Structure):
    _fields_ = (
        ("listed", c_void_p),
        ("listed_count", c_int64),
        ("mask", c_void_p),
        ("mask_count", c_int64),
        ("beyond", c_int64),
        ("bits", c_void_p),
        ("nodes", c_void_p),
        ("any", c_int64),
    )


class _Asked(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("rows", "most", "settles")),
        *((name, c_void_p) for name in ("widths", "counts")),
        ("pairs", c_int64),
        *((name, c_void_p) for name in ("excluded_rows", "excluded_items", "filters", "groups")),
    )


class _Scorer(Structure):
    _fields_ = tuple((name, c_void_p) for name in ("score", "policy", "states"))


class TrieAddresses:
    """Where a snapshot's arrays lie; the snapshot must live on."""

    def __init__(self, view: TrieSnapshot) -> None:
        layout = view.layout
        codes = [view.entries[f"code_{level}"] for level in range(layout.head, layout.levels)]
        paths = view.items["codes"]
        self._lists = (
            np.array(layout.sizes, dtype=np.int64),
            np.array([_at(one) for one in view.heads], dtype=np.int64),
            np.array([_at(one) for one in codes], dtype=np.int64),
            np.array([one.dtype.itemsize for one in codes], dtype=np.int64),
        )
        sizes, heads, columns, widths = map(_at, self._lists)
        self._trie = _Trie(
            layout.levels,
            layout.head,
            int(layout.node_bitmaps),
            sizes,
            heads,
            _at(view.node_table),
            _at(view.nodes["bases"]),
            _at(view.nodes["sizes"]),
            _at(view.nodes["bits"]) if layout.node_bitmaps else None,
            _at(view.entries["items"]),
            _at(view.entries["starts"]) if layout.node_bitmaps else None,
            columns,
            widths,
            _at(view.item_table),
            _at(view.items["states"]),
            _at(paths),
            paths.dtype.itemsize,
            view.known_items,
        )
        self.address = addressof(self._trie)


_ADDRESSES: WeakKeyDictionary[TrieSnapshot, TrieAddresses] = WeakKeyDictionary()


def addresses_of(view: TrieSnapshot) -> TrieAddresses:
    """Where a snapshot's arrays lie; who reads there holds on to what is returned."""
    found = _ADDRESSES.get(view)
    if found is None:
        found = _ADDRESSES[view] = TrieAddresses(view)
    return found


class Found(NamedTuple):
    """What a search found, in as many columns as the largest count; -1 and -inf where a row has no more."""

    items: Indices  # (B, k)
    log_probs: Scores | None  # None where the search ended before all were known


class CompiledSearch:
    """What a search by compiled code is asked for."""

    def __init__(
        self,
        view: TrieSnapshot,
        widths: Indices,
        counts: Indices,
        exclusions: Exclusions | None,
        filters: Sequence[ItemFilter | None],
        settles: bool,
    ) -> None:
        """`widths` and `counts` (B,); where it `settles` the policy is not asked about what decides nothing."""
        self._rows, self._most = len(counts), int(counts.max(initial=0))
        self._addresses = addresses_of(view)  # owned here: another thread may replace the snapshot's own
        self._view = view
        exclusions = exclusions or Exclusions.none()
        rows, items = (np.ascontiguousarray(one, dtype=np.int64) for one in exclusions.given)
        widths, counts = np.ascontiguousarray(widths), np.ascontiguousarray(counts)
        of_filters, groups = _filters(view, filters)
        self._held: tuple[Any, ...] = (widths, counts, rows, items, of_filters, groups)
        self._asked = _Asked(
            self._rows,
            self._most,
            int(settles),
            _at(widths),
            _at(counts),
            len(rows),
            _at(rows),
            _at(items),
            None if of_filters is None else addressof(of_filters.array),
            None if groups is None else _at(groups),
        )

    def run(self, policy: Policy, state: Tensor, wanted: Callable[[], bool] | None) -> Found:
        """The best items of each row; raises as `beam_search` does, and whatever the policy raises."""
        search = _search()
        assert search is not None
        items = np.empty((self._rows, self._most), dtype=np.int64)
        log_probs = np.empty((self._rows, self._most), dtype=np.float32)
        where = np.zeros(2, dtype=np.int64)
        calls = _Calls(policy, state, self._view, wanted)
        outcome = search(
            self._addresses.address,
            byref(self._asked),
            byref(calls.scorer),
            calls.wanted,
            _at(items),
            _at(log_probs),
            _at(where),
        )
        calls.end()
        level, row = int(where[0]), int(where[1]) - 1
        if outcome == _ABANDONED:
            raise AbandonedError(f"nobody waits for these {self._rows} rows any more; they were left at level {level}")
        if outcome == _NO_NUMBER:
            raise no_number(row)
        if outcome == _DEAD_END:
            raise dead_end(level, row)
        return Found(items, None if outcome == _SETTLED else log_probs)


class _Calls:
    """What compiled code calls: the policy's own compiled code where it has any, else the policy."""

    def __init__(self, policy: Policy, state: Tensor, view: TrieSnapshot, wanted: Callable[[], bool] | None) -> None:
        self.error: BaseException | None = None
        self._policy, self._state, self._view = policy, state, view
        self._called: list[object] = []  # what must live as long as compiled code may call
        native: NativeScorer | None = None
        if hasattr(policy, "native_scorer"):  # `isinstance` of a protocol takes longer than what is asked here
            native = cast(ScoresNatively, policy).native_scorer(state)
        if native is None:
            score = _SCORE(self._scores)
            self._called.append(score)
            self.scorer = _Scorer(c_void_p.from_buffer(score), None, None)
        else:
            self._called.append(native.states)
            self.scorer = _Scorer(native.function, native.context, native.states.data_ptr())
        self.wanted = None if wanted is None else _WANTED(self._kept(wanted))

    def end(self) -> None:
        """Let go of what points back here, which only a collection would find; raise what a call raised."""
        self._called.clear()
        del self.scorer, self.wanted
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _kept(self, wanted: Callable[[], bool]) -> Callable[[], bool]:
        def asked() -> bool:
            try:
                return wanted()
            except BaseException as error:
                self.error = error
                return False

        return asked

    def _scores(
        self,
        _policy: int,
        level: int,
        rows: int,
        beams: int,
        _states: int,
        prefixes: int,
        steps: int,
        origins: int,
        codes: int,
        log_probs: int,
    ) -> int:
        try:
            of_beams = _array(prefixes, (rows, beams, level), np.int64).copy()  # a policy may keep what it is asked
            origin, code = _array(origins, (steps,), np.int32).copy(), _array(codes, (steps,), np.int32).copy()
            _array(log_probs, (steps,), np.float32)[:] = self._asked(of_beams, origin, code)
        except BaseException as error:  # it must not be lost in compiled code
            self.error = error
            return 1
        return 0

    def _asked(self, prefixes: Indices, origins: NDArray[np.int32], codes: NDArray[np.int32]) -> Scores:
        if isinstance(self._policy, ScoresSteps):
            asked = map(torch.from_numpy, (prefixes, origins, codes))
            return self._policy.step_log_probs(self._state, *asked).numpy()
        return next_log_probs(self._policy, self._state, self._view, prefixes)[origins, codes]


class _Filters(NamedTuple):
    array: Any  # of `_Filter`
    held: list[Any]  # what it points at


def _filters(view: TrieSnapshot, of_rows: Sequence[ItemFilter | None]) -> tuple[_Filters | None, Indices | None]:
    """The different filters of rows, and the number of each row's own, -1 where it has none."""
    different = list({id(one): one for one in of_rows if one is not None}.values())
    if not different:
        return None, None
    numbers = {id(one): number for number, one in enumerate(different)}
    groups = np.array([-1 if one is None else numbers[id(one)] for one in of_rows], dtype=np.int64)
    held: list[Any] = []
    array = _array_type(len(different))(*(_filter(one, view, held) for one in different))
    return _Filters(array, held), groups


@cache
def _array_type(length: int) -> Any:
    """Made once: a type is a cycle that only a collection finds."""
    return _Filter * length


def _filter(one: ItemFilter, view: TrieSnapshot, held: list[Any]) -> _Filter:
    sieve = sieve_of(one, view)
    bits = np.array([_at(bits) for bits in sieve.bits], dtype=np.int64)
    listed, mask = one.parts
    held += [sieve, bits, listed, mask]
    return _Filter(
        None if listed is None else _at(listed),
        0 if listed is None else len(listed),
        None if mask is None else _at(mask),
        0 if mask is None else len(mask),
        int(one.beyond),
        _at(bits),
        _at(sieve.nodes),
        int(sieve.nodes.any()),
    )


def _at(array: NDArray[Any]) -> int:
    """Where an array's numbers lie, one after the other."""
    assert array.flags.c_contiguous
    found: int = array.__array_interface__["data"][0]
    return found


def _array(address: int, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """What lies there, for as long as compiled code keeps it."""
    wanted: np.dtype[Any] = np.dtype(kind)
    size = math.prod(shape) * wanted.itemsize
    if size == 0:
        return np.empty(shape, dtype=wanted)
    found: NDArray[Any] = np.frombuffer(_memory(address, size, _WRITABLE), dtype=wanted)
    return found.reshape(shape)
