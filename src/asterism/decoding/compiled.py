"""The steps of a beam search by compiled code (`steps.cpp`); `candidates` and `steps` say the same in NumPy."""

from __future__ import annotations

from ctypes import Structure, addressof, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import ModelError
from asterism.core.native import Function, function
from asterism.decoding.admission import Admission
from asterism.decoding.candidates import Beams, Scores
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.steps import next_log_probs
from asterism.decoding.trie_layout import Indices, Words
from asterism.models.policy import Policy, ScoresSteps

_SOURCE: Final = Path(__file__).with_name("steps.cpp")


class _Functions(NamedTuple):
    list_bits: Function
    count_entries: Function
    list_entries: Function
    pick: Function
    add_up: Function
    select_steps: Function


_A, _N = c_void_p, c_int64  # arrays, or a trie, and numbers
_KINDS: Final = {
    "list_bits": (_A, _N, _N, _N, *[_A] * 5),
    "count_entries": (_A, _N, _N, _A, _A),
    "list_entries": (_A, _N, _N, _N, *[_A] * 7),
    "pick": (_N, _A, _A, _A, _N, _A),
    "add_up": (_N, _A, _A, _A),
    "select_steps": (_A, _N, _N, *[_A] * 9, _N, *[_A] * 5),
}
_RESULTS: Final = {"count_entries": _N, "select_steps": _N}


@cache
def _functions() -> _Functions | None:
    found = [function(_SOURCE, name, _KINDS[name], _RESULTS.get(name)) for name in _Functions._fields]
    return None if None in found else _Functions(*found)


def is_compiled() -> bool:
    """Whether steps are taken by compiled code."""
    return _functions() is not None


class _Trie(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("levels", "head", "node_bitmaps")),
        *((name, c_void_p) for name in ("sizes", "heads", "node_table", "bases", "counts", "bits", "items", "starts")),
        ("codes", c_void_p),
        ("code_bytes", c_void_p),
    )


class TrieAddresses:
    """Where a snapshot's arrays lie; the snapshot must live on."""

    def __init__(self, view: TrieSnapshot) -> None:
        layout = view.layout
        codes = [view.entries[f"code_{level}"] for level in range(layout.head, layout.levels)]
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
        )
        self.address = addressof(self._trie)


_ADDRESSES: WeakKeyDictionary[TrieSnapshot, TrieAddresses] = WeakKeyDictionary()


def _addresses(view: TrieSnapshot) -> TrieAddresses:
    found = _ADDRESSES.get(view)
    if found is None:
        found = _ADDRESSES[view] = TrieAddresses(view)
    return found


class Steps(NamedTuple):
    """Legal steps in order of row, beam and code."""

    origins: NDArray[np.int32]  # (n,) row * W + beam
    codes: NDArray[np.int32]  # (n,)
    offsets: Indices  # (B + 1,) where rows begin
    firsts: Indices | None  # (n,) the ranges they lead to, on levels without bitmaps
    lasts: Indices | None


class CompiledSteps:
    """One search over a snapshot; raises `ModelError` where a policy's score is not a number."""

    def __init__(self, view: TrieSnapshot, admission: Admission | None) -> None:
        found = _functions()
        assert found is not None
        self._functions = found
        self._view = view
        self._admission = admission
        self._addresses = _addresses(view)  # owned here: another thread may replace the snapshot's own
        self._trie = self._addresses.address

    def next(
        self, policy: Policy, state: Tensor, level: int, beams: Beams, widths: Indices
    ) -> tuple[Beams, Indices | None]:
        """The best widths[r] steps of each row as beams; on the last level also the items (B, W), -1 where none."""
        steps = self.legal(level, beams)
        return self.best(level, beams, steps, self.scores(policy, state, level, beams, steps), widths)

    def legal(self, level: int, beams: Beams) -> Steps:
        """All that the trie, and what the rows may be given, allows."""
        view, admission = self._view, self._admission
        rows, width = beams.starts.shape
        if not view.layout.has_bitmaps(level):
            return self._of_entries(level, beams)
        narrowed: Words | None = None
        live = rows * width
        if admission is not None:
            at = np.flatnonzero(beams.starts >= 0)
            starts, live = beams.starts.ravel()[at], len(at)
            narrowed = admission.narrow(level, at // width, starts, view.child_bits(level, starts))
        most = live * view.layout.sizes[level]
        origins, codes = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
        offsets = np.empty(rows + 1, dtype=np.int64)
        arrays = (None if narrowed is None else _at(narrowed), _at(origins), _at(codes), _at(offsets))
        self._functions.list_bits(self._trie, level, rows, width, _at(beams.starts), *arrays)
        return Steps(origins[: offsets[-1]], codes[: offsets[-1]], offsets, None, None)

    def scores(self, policy: Policy, state: Tensor, level: int, beams: Beams, steps: Steps) -> Scores:
        """(n,) log-probabilities of the paths."""
        size = self._view.layout.sizes[level]
        if size == 1:
            scores = np.zeros(len(steps.codes), dtype=np.float32)
        elif hasattr(policy, "step_log_probs"):  # `isinstance` of a protocol takes longer than what is asked here
            prefixes = torch.from_numpy(beams.codes)
            scores = (
                cast(ScoresSteps, policy)
                .step_log_probs(state, prefixes, torch.from_numpy(steps.origins), torch.from_numpy(steps.codes))
                .numpy()
            )
        else:
            dense = next_log_probs(policy, state, self._view, beams.codes)
            scores = np.empty(len(steps.codes), dtype=np.float32)
            self._functions.pick(len(scores), _at(steps.origins), _at(steps.codes), _at(dense), size, _at(scores))
        return self.added(beams, steps, scores)

    def added(self, beams: Beams, steps: Steps, log_probs: Scores) -> Scores:
        """The steps' log-probabilities (n,), to which those of their beams are added in place."""
        self._functions.add_up(len(log_probs), _at(steps.origins), _at(beams.log_probs), _at(log_probs))
        return log_probs

    def best(
        self, level: int, beams: Beams, steps: Steps, scores: Scores, widths: Indices
    ) -> tuple[Beams, Indices | None]:
        """See `next`."""
        rows = len(widths)
        counts = np.diff(steps.offsets)
        columns = max(1, int(np.minimum(widths, counts).max(initial=1)))
        starts, stops = np.empty((2, rows, columns), dtype=np.int64)
        prefixes = np.empty((rows, columns, level + 1), dtype=np.int64)
        log_probs = np.empty((rows, columns), dtype=np.float32)
        items = np.empty((rows, columns), dtype=np.int64) if level == self._view.layout.levels - 1 else None
        wrong = self._functions.select_steps(
            self._trie,
            level,
            rows,
            _at(beams.starts),
            _at(beams.codes),
            _at(steps.origins),
            _at(steps.codes),
            _at(scores),
            _at(steps.offsets),
            None if steps.firsts is None else _at(steps.firsts),
            None if steps.lasts is None else _at(steps.lasts),
            _at(widths),
            columns,
            _at(starts),
            _at(stops),
            _at(prefixes),
            _at(log_probs),
            None if items is None else _at(items),
        )
        if wrong:
            raise ModelError(
                f"the policy's score of row {wrong - 1} is not a number; its training diverged or its input is bad"
            )
        return Beams(starts, stops, prefixes, log_probs), items

    def _of_entries(self, level: int, beams: Beams) -> Steps:
        rows, width = beams.starts.shape
        starts, stops = beams.starts.copy(), beams.stops.copy()
        total = self._functions.count_entries(self._trie, level, rows * width, _at(starts), _at(stops))
        if self._admission is not None:
            return self._admitted(level, rows, starts, stops)
        origins, codes = np.empty((2, total), dtype=np.int32)
        firsts, lasts = np.empty((2, total), dtype=np.int64)
        offsets = np.empty(rows + 1, dtype=np.int64)
        arrays = map(_at, (starts, stops, origins, codes, firsts, lasts, offsets))
        self._functions.list_entries(self._trie, level, rows, width, *arrays)
        count = int(offsets[-1])
        return Steps(origins[:count], codes[:count], offsets, firsts[:count], lasts[:count])

    def _admitted(self, level: int, rows: int, starts: Indices, stops: Indices) -> Steps:
        """Of steps by entries those that lead to something that the row may be given."""
        admission, width = self._admission, starts.shape[1]
        assert admission is not None
        live = np.flatnonzero(starts >= 0)
        owners = live // width
        runs = self._view.runs(
            level, starts.ravel()[live], stops.ravel()[live], lambda at, items: admission.admits(owners[at], items)
        )
        origins = live[runs.positions]
        offsets = np.searchsorted(origins, np.arange(rows + 1) * width)
        return Steps(origins.astype(np.int32), runs.codes.astype(np.int32), offsets, runs.starts, runs.stops)


def _at(array: NDArray[Any]) -> int:
    """Where an array's numbers lie, one after the other."""
    assert array.flags.c_contiguous
    found: int = array.__array_interface__["data"][0]
    return found
