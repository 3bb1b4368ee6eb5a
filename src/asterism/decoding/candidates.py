"""The legal steps of a beam: which codes may follow, what they score, and where they lead."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.decoding.admission import Admission
from asterism.decoding.snapshot import Runs, TrieSnapshot
from asterism.decoding.trie_layout import Indices, Words, ranges, unpack

#: Where more than one in so many codes is legal, all are scored and the illegal ones put down to -inf; else the legal
#: ones are gathered. Both give the same scores; gathering costs more a code, and leaves fewer to select from.
_DENSE: Final = 4

#: The bits of -inf as float32.
_MINUS_INFINITY: Final = np.float32(-np.inf).view(np.int32)

Scores = NDArray[np.float32]


class Beams(NamedTuple):
    """The prefixes that a search holds for each row; start -1 where a row holds fewer."""

    starts: Indices  # (B, W) addresses, or where ranges of entries start
    stops: Indices  # (B, W) where ranges stop
    codes: Indices  # (B, W, l)
    log_probs: Scores  # (B, W)

    @classmethod
    def at_root(cls, left: NDArray[np.bool_]) -> Beams:
        """The empty prefix, for rows (B,) that have something left."""
        starts = np.where(left, 0, -1)[:, None]
        log_probs = np.where(left, np.float32(0), np.float32(-np.inf))[:, None]
        return cls(starts, starts + 1, np.zeros((len(left), 1, 0), dtype=np.int64), log_probs)


class Candidates(NamedTuple):
    """Scores of the steps of each row, in order of beam and code, -inf where a step is not legal."""

    scores: Scores  # (B, M)
    level: int
    size: int  # codes of the level
    flat: Indices | None  # (n,) beam * size + code of each legal step; None where every step stands in `scores`
    firsts: Indices  # (B,) where each row begins in `flat`
    runs: Runs | None  # where the steps lead, on levels without bitmaps

    def at(self, rows: Indices, positions: Indices) -> Indices:
        """Steps by row and position in the row, as `lead` takes them; some step where the position is padding."""
        if self.flat is None:
            return np.asarray(rows * self.scores.shape[1] + positions)
        return np.asarray(np.minimum(self.firsts[rows] + positions, len(self.flat) - 1))

    def beams_and_codes(self, steps: Indices) -> tuple[Indices, Indices]:
        """The beams (row * W + beam) that steps start from, and their codes."""
        flat = steps if self.flat is None else self.flat[steps]
        beams = flat // self.size
        return beams, flat - beams * self.size


def expand(view: TrieSnapshot, level: int, beams: Beams, log_probs: Scores, admission: Admission | None) -> Candidates:
    """The steps of all beams, for log-probabilities (B * W, codes) of the next code."""
    width = beams.starts.shape[1]
    live = np.flatnonzero(beams.starts >= 0)
    starts = beams.starts.ravel()[live]
    if view.layout.has_bitmaps(level):
        bits = view.child_bits(level, starts)
        if admission is not None:
            bits = admission.narrow(level, live // width, starts, bits)
        if int(np.bitwise_count(bits).sum(dtype=np.int64)) * _DENSE > len(bits) * log_probs.shape[1]:
            return _dense(level, beams, log_probs, live, bits)
        found = np.flatnonzero(unpack(bits, log_probs.shape[1]))
        positions = found // log_probs.shape[1]
        return _sparse(level, beams, log_probs, live[positions], found - positions * log_probs.shape[1], None)
    stops = beams.stops.ravel()[live]
    if level == view.layout.head:
        starts, stops = view.node_ranges(starts)
    rows = live // width
    admits = None if admission is None else lambda at, items: admission.admits(rows[at], items)
    runs = view.runs(level, starts, stops, admits)
    return _sparse(level, beams, log_probs, live[runs.positions], runs.codes, runs)


def lead(view: TrieSnapshot, beams: Beams, found: Candidates, steps: Indices) -> tuple[Indices, Indices]:
    """The starts and stops of the prefixes that legal steps (n,) lead to."""
    if found.runs is not None:
        return found.runs.starts[steps], found.runs.stops[steps]
    origins, codes = found.beams_and_codes(steps)
    parents = beams.starts.ravel()[origins]
    if found.level < view.layout.head:
        starts = parents * found.size + codes
        return starts, starts + 1
    return view.child_ranges(parents, codes)


def _dense(level: int, beams: Beams, log_probs: Scores, live: Indices, bits: Words) -> Candidates:
    rows, width = beams.starts.shape
    size = log_probs.shape[1]
    mask = unpack(bits, size)
    if len(live) < rows * width:
        whole = np.zeros((rows * width, size), dtype=np.bool_)
        whole[live] = mask
        mask = whole
    scores = log_probs + beams.log_probs.reshape(-1, 1)
    closed = mask.astype(np.int32)  # 1 and 0 become the bits of 0.0 and of -inf: no branch to mispredict
    closed -= 1
    closed &= _MINUS_INFINITY
    scores += closed.view(np.float32)
    return Candidates(scores.reshape(rows, width * size), level, size, None, np.zeros(rows, dtype=np.int64), None)


def _sparse(
    level: int, beams: Beams, log_probs: Scores, origins: Indices, codes: Indices, runs: Runs | None
) -> Candidates:
    rows, width = beams.starts.shape
    size = log_probs.shape[1]
    flat = origins * size + codes
    values = log_probs.ravel()[flat] + beams.log_probs.ravel()[origins]
    if rows == 1:
        return Candidates(values[None], level, size, flat, np.zeros(1, dtype=np.int64), runs)
    ends = np.searchsorted(origins, np.arange(1, rows + 1) * width)
    firsts = np.concatenate([[0], ends[:-1]])
    scores = np.full((rows, int((ends - firsts).max())), -np.inf, dtype=np.float32)
    of_row, places = ranges(firsts, ends)
    scores[of_row, places - firsts[of_row]] = values
    return Candidates(scores, level, size, flat, firsts, runs)
