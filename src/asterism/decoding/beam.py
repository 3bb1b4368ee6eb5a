"""Beam search over semantic ids: exact with respect to the trie, batched over users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import AbandonedError, ModelError
from asterism.decoding.admission import Admission
from asterism.decoding.candidates import Beams, Candidates, Scores, expand, lead
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.selection import by_position, select_top
from asterism.decoding.settling import Settled
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie_layout import Indices
from asterism.models.policy import Policy


class Generated(NamedTuple):
    """Items with the log-probabilities of their codes, best first; -1 and -inf where a row has no more."""

    items: Tensor  # (B, k) long
    code_log_probs: Tensor | None  # (B, k) float, log p(item) = sum over levels of log p(code | prefix)


def always() -> bool:
    """Somebody waits for the answer."""
    return True


def beam_search(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    width: int,
    count: int,
    exclusions: Exclusions | None = None,
    filters: Sequence[ItemFilter | None] = (),
    *,
    scored: bool = True,
    wanted: Callable[[], bool] = always,
) -> Generated:
    """The `count` most probable items that a beam of max(width, count) finds for states (B, D).

    Never an id that is not in the trie, never one twice, never an excluded one or one that the row's filter (`filters`
    holds one for each row, or is empty) does not allow; of equal log-probabilities the lower item index stands first.
    As wide as the catalogue it is exact. A row for which fewer than `count` items are left gets them all, then -1
    and -inf; an item to which the policy gives probability zero is not generated.
    Without `scored` no log-probabilities come back and a row's items stand in no order. Then the policy is not asked
    once all that is left below every row's beams fits into `count`: the items are the same ones, save that of those
    found this way none is left out for a probability of zero.
    Raises `ModelError` if the trie is empty, or the policy leaves a row no path or answers NaN; `AbandonedError`
    if `wanted` is false before a step.
    """
    view.require_items()
    rows = state.shape[0]
    admission = None
    if filters or (exclusions is not None and len(exclusions.rows)):
        admission = Admission(view, rows, exclusions or Exclusions.none(), filters)
    left = np.ones(rows, dtype=np.bool_) if admission is None else admission.rows_left
    beams = Beams.at_root(left)
    settled = None if scored else Settled(view, rows, count, admission)
    for level in range(view.layout.levels):
        if not wanted():
            raise AbandonedError(f"nobody waits for these {rows} rows any more; they were left at level {level}")
        if settled is not None and settled.all_of(beams, level):
            return Generated(torch.from_numpy(settled.items), None)
        if not left.any():
            break
        last = level == view.layout.levels - 1
        found = expand(view, level, beams, _next_log_probs(policy, state, view, beams.codes), admission)
        beams = _step(view, beams, found, count if last else max(width, count), last)
        _check_dead_end(beams, left, level)
    items, log_probs = _filled(view, beams, count)
    return Generated(items, log_probs if scored else None)


def _next_log_probs(policy: Policy, state: Tensor, view: TrieSnapshot, prefixes: Indices) -> Scores:
    """(B * W, codes) what the policy says of the next code; nothing has to be asked where there is one code only."""
    rows, width, level = prefixes.shape
    size = view.layout.sizes[level]
    if size == 1:
        return np.zeros((rows * width, 1), dtype=np.float32)
    log_probs = policy.next_code_log_probs(state, torch.from_numpy(prefixes).to(state.device))
    if log_probs.shape != (rows, width, size):
        raise ModelError(
            f"the policy answered shape {tuple(log_probs.shape)} at level {level}, not {(rows, width, size)}; "
            "its codebooks are not the trie's"
        )
    flat: NDArray[np.float32] = log_probs.detach().float().cpu().contiguous().view(rows * width, size).numpy()
    return flat


def _step(view: TrieSnapshot, beams: Beams, found: Candidates, count: int, last: bool) -> Beams:
    def by_item(rows: Indices, positions: Indices) -> Indices:
        keys = np.zeros(len(rows), dtype=np.int64)
        legal = found.scores[rows, positions] > -np.inf
        keys[legal] = view.items_at(lead(view, beams, found, found.at(rows[legal], positions[legal]))[0])
        return keys

    values, positions = select_top(torch.from_numpy(found.scores), count, by_item if last else by_position)
    kept = max(1, int((values > -np.inf).sum(axis=1).max(initial=0)))
    values, positions = values[:, :kept], positions[:, :kept]
    real = values > -np.inf
    rows, columns = np.nonzero(real)
    steps = found.at(rows, positions[rows, columns])
    origins, codes = found.beams_and_codes(steps)
    starts, stops = np.full(values.shape, -1, dtype=np.int64), np.full(values.shape, -1, dtype=np.int64)
    starts[real], stops[real] = lead(view, beams, found, steps)
    width, level = beams.codes.shape[1:]
    prefixes = np.zeros((*values.shape, level + 1), dtype=np.int64)
    prefixes[rows, columns, :level] = beams.codes[origins // width, origins % width]
    prefixes[rows, columns, level] = codes
    return Beams(starts, stops, prefixes, values)


def _check_dead_end(beams: Beams, left: NDArray[np.bool_], level: int) -> None:
    stuck = np.flatnonzero(left & (beams.starts[:, 0] < 0))
    if len(stuck):
        raise ModelError(
            f"dead end at level {level} of row {int(stuck[0])}: the policy gives probability zero to every path to the "
            "items left; check its log-probabilities for -inf"
        )


def _filled(view: TrieSnapshot, beams: Beams, count: int) -> tuple[Tensor, Tensor]:
    """The items of whole paths, in `count` columns."""
    rows = len(beams.starts)
    items = np.full((rows, count), -1, dtype=np.int64)
    log_probs = np.full((rows, count), -np.inf, dtype=np.float32)
    at, columns = np.nonzero(beams.starts >= 0)
    if beams.codes.shape[2] == view.layout.levels:
        items[at, columns] = view.items_at(beams.starts[at, columns])
        log_probs[at, columns] = beams.log_probs[at, columns]
    return torch.from_numpy(items), torch.from_numpy(log_probs)
