"""Beam search over semantic ids: exact with respect to the trie, batched over users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asterism.core.errors import AbandonedError
from asterism.decoding.candidates import Beams, Candidates, expand
from asterism.decoding.compiled import CompiledSearch, is_compiled
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.selection import by_position, select_top
from asterism.decoding.settling import Settled
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.steps import (
    PerRow,
    admission_of,
    by_item,
    check_dead_end,
    go_on,
    items_of,
    next_log_probs,
    per_row,
)
from asterism.decoding.trie_layout import Indices
from asterism.models.policy import Policy


class Generated(NamedTuple):
    """Items with the log-probabilities of their codes, best first; -1 and -inf where a row has no more."""

    items: Tensor  # (B, k) long
    code_log_probs: Tensor | None  # (B, k) float, log p(item) = sum over levels of log p(code | prefix)


class Sizes(NamedTuple):
    """How wide each row's beam is, and how many items the row is given; the former is never less."""

    widths: Indices  # (B,)
    counts: Indices  # (B,)


def always() -> bool:
    """Somebody waits for the answer."""
    return True


def beam_search(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    width: PerRow,
    count: PerRow,
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
    and -inf; an item to which the policy gives probability zero is not generated. `width` and `count` hold for all rows
    or name one number for each; k is the largest count, and the policy is asked about as many beams as the widest row.
    Without `scored` no log-probabilities come back and a row's items stand in no order. Then the policy is not asked
    once all that is left below every row's beams fits into `count`: the items are the same ones, save that of those
    found this way none is left out for a probability of zero.
    Raises `ModelError` if the trie is empty, or the policy leaves a row no path or answers NaN, `RequestError` on
    widths or counts that are no such numbers, `AbandonedError` if `wanted` is false before a step.
    """
    counts = per_row(count, state.shape[0], "count")
    widths = np.maximum(per_row(width, state.shape[0], "width"), counts)
    return search(policy, state, view, Sizes(widths, counts), exclusions, filters, scored=scored, wanted=wanted)


def search(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    sizes: Sizes,
    exclusions: Exclusions | None = None,
    filters: Sequence[ItemFilter | None] = (),
    *,
    scored: bool = True,
    wanted: Callable[[], bool] = always,
) -> Generated:
    """`beam_search` for sizes that are known to be right."""
    view.require_items()
    if is_compiled():
        return _compiled(policy, state, view, sizes, exclusions, filters, scored, wanted)
    rows, (widths, counts) = state.shape[0], sizes
    admission = admission_of(view, rows, exclusions, filters)
    left = np.ones(rows, dtype=np.bool_) if admission is None else admission.rows_left
    beams = Beams.at_root(left)
    settled = None if scored else Settled(view, counts, admission)
    for level in range(view.layout.levels):
        if not wanted():
            raise AbandonedError(f"nobody waits for these {rows} rows any more; they were left at level {level}")
        if settled is not None and settled.all_of(beams, level):
            return Generated(torch.from_numpy(settled.items), None)
        if not left.any():
            break
        last = level == view.layout.levels - 1
        found = expand(view, level, beams, next_log_probs(policy, state, view, beams.codes), admission)
        beams = _step(view, beams, found, counts if last else widths, last)
        check_dead_end(beams, left, level)
    items, log_probs = items_of(view, beams, int(counts.max(initial=0)))
    return Generated(torch.from_numpy(items), torch.from_numpy(log_probs) if scored else None)


def _compiled(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    sizes: Sizes,
    exclusions: Exclusions | None,
    filters: Sequence[ItemFilter | None],
    scored: bool,
    wanted: Callable[[], bool],
) -> Generated:
    """The same by compiled code."""
    counts = sizes.counts
    if not scored and _may_be_settled(view, counts, filters):
        admission = admission_of(view, len(counts), exclusions, filters)
        settled = Settled(view, counts, admission)
        if settled.all_of(Beams.at_root(np.ones(len(counts), dtype=np.bool_)), 0):
            return Generated(torch.from_numpy(settled.items), None)
    search = CompiledSearch(view, *sizes, exclusions, filters, not scored)
    found = search.run(policy, state, None if wanted is always else wanted)
    return Generated(
        torch.from_numpy(found.items),
        None if found.log_probs is None or not scored else torch.from_numpy(found.log_probs),
    )


def _may_be_settled(view: TrieSnapshot, counts: Indices, filters: Sequence[ItemFilter | None]) -> bool:
    """Whether each row may have so few items that they are its answer."""
    if not filters:
        return view.count <= int(counts.max(initial=0))
    pairs = zip(filters, counts.tolist(), strict=True)
    return all(min(view.count, view.count if one is None or one.count is None else one.count) <= k for one, k in pairs)


def _step(view: TrieSnapshot, beams: Beams, found: Candidates, widths: Indices, last: bool) -> Beams:
    keys = by_item(view, beams, found) if last else by_position
    best = select_top(torch.from_numpy(found.scores), int(widths.max()), keys)
    return go_on(view, beams, found, best, widths)[0]
