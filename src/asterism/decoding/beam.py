"""Beam search over semantic ids: exact with respect to the trie, batched over users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asterism.core.errors import ModelError
from asterism.decoding.exclusion import DeadChildren, Exclusions, dead_children, is_alive
from asterism.decoding.selection import by_position, select_top
from asterism.decoding.trie import Trie
from asterism.decoding.trie_level import Indices
from asterism.models.policy import Policy


class Generated(NamedTuple):
    """Items with the log-probabilities of their codes, best first; -1 and -inf where a row has no more."""

    items: Tensor  # (B, k) long
    code_log_probs: Tensor  # (B, k) float, log p(item) = sum over levels of log p(code | prefix)


class _Beams(NamedTuple):
    slots: Indices  # (B, W) of the trie, -1 where padded
    prefixes: Tensor  # (B, W, l) long
    log_probs: Tensor  # (B, W) float


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The legal steps of all beams of all rows, ordered by row, beam and code."""

    beams: Indices  # (n,) row * W + beam
    parents: Indices  # (n,) the beams' slots
    codes: Indices  # (n,)
    rows: Indices  # (n,)
    starts: Indices  # (B,) where each row begins
    counts: Indices  # (B,)

    def at(self, rows: Indices, positions: Indices) -> Indices:
        """Candidates by row and position in the row; some candidate where the position is padding."""
        return np.asarray(np.minimum(self.starts[rows] + positions, len(self.codes) - 1))


def beam_search(
    policy: Policy, state: Tensor, trie: Trie, width: int, count: int, exclusions: Exclusions | None = None
) -> Generated:
    """The `count` most probable items that a beam of max(width, count) finds for states (B, D).

    Never an id that is not in the trie, never one twice, never an excluded one; of equal
    log-probabilities the lower item index stands first. As wide as the catalogue it is exact.
    A row for which fewer than `count` items are left gets them all, then -1 and -inf; an item to
    which the policy gives probability zero is not generated.
    Raises `ModelError` if the trie is empty, or the policy leaves a row no path or answers NaN.
    """
    trie.require_items()
    exclusions = exclusions or Exclusions.none()
    rows = state.shape[0]
    left = exclusions.left(trie, rows)
    if not left.any():
        return _padded(rows, count)
    dead = dead_children(trie, exclusions)
    beams = _roots(left)
    for level in range(trie.levels):
        last = level == trie.levels - 1
        steps = _expand(trie, level, beams.slots, dead[level])
        scores = _score(policy, state, trie, beams, steps)
        beams = _step(trie, beams, steps, scores, count if last else max(width, count))
        _check_dead_end(beams, left, level)
    items = torch.from_numpy(trie.items_at(beams.slots))
    return _fill(Generated(items, beams.log_probs), count)


def _roots(left: Indices) -> _Beams:
    slots = np.where(left > 0, 0, -1)[:, None]
    log_probs = torch.from_numpy(np.where(slots >= 0, 0.0, -np.inf).astype(np.float32))
    return _Beams(slots, torch.zeros((len(left), 1, 0), dtype=torch.long), log_probs)


def _expand(trie: Trie, level: int, slots: Indices, dead: DeadChildren) -> _Candidates:
    rows, width = slots.shape
    live = np.flatnonzero(slots >= 0)
    parents = slots.ravel()[live]
    positions, codes = trie.children(level, parents)
    if len(dead.children):
        alive = is_alive(trie, level, dead, live // width, parents, (positions, codes))
        positions, codes = positions[alive], codes[alive]
    beams = live[positions]
    of_row = beams // width
    counts = np.bincount(of_row, minlength=rows)
    return _Candidates(beams, parents[positions], codes, of_row, np.cumsum(counts) - counts, counts)


def _score(policy: Policy, state: Tensor, trie: Trie, beams: _Beams, steps: _Candidates) -> Tensor:
    """Log-probabilities of the candidates' prefixes, a row of candidates each, -inf where a row has fewer."""
    rows, width, level = beams.prefixes.shape
    codes = trie.codebook_sizes[level]
    log_probs = policy.next_code_log_probs(state, beams.prefixes.to(state.device))
    if log_probs.shape != (rows, width, codes):
        raise ModelError(
            f"the policy answered shape {tuple(log_probs.shape)} at level {level}, not {(rows, width, codes)}; "
            "its codebooks are not the trie's"
        )
    picked = torch.from_numpy(steps.beams * codes + steps.codes).to(log_probs.device)
    values = log_probs.reshape(-1)[picked].float().cpu() + beams.log_probs.reshape(-1)[torch.from_numpy(steps.beams)]
    scores = torch.full((rows, int(steps.counts.max())), -torch.inf)
    places = np.arange(len(steps.codes)) - steps.starts[steps.rows] + steps.rows * scores.shape[1]
    scores.view(-1)[torch.from_numpy(places)] = values
    return scores


def _step(trie: Trie, beams: _Beams, steps: _Candidates, scores: Tensor, count: int) -> _Beams:
    width, level = beams.prefixes.shape[1:]

    def by_item(rows: Indices, positions: Indices) -> Indices:
        chosen = steps.at(rows, positions)
        return trie.items_at(trie.child_slots(level, steps.parents[chosen], steps.codes[chosen]))

    values, positions = select_top(scores, count, by_item if level == trie.levels - 1 else by_position)
    kept = max(1, int((values > -np.inf).sum(axis=1).max()))
    values, positions = values[:, :kept], positions[:, :kept]
    rows = np.arange(len(values))[:, None]
    chosen = steps.at(rows, positions)
    slots = trie.child_slots(level, steps.parents[chosen], steps.codes[chosen])
    before = beams.prefixes[torch.from_numpy(rows), torch.from_numpy(steps.beams[chosen] % width)]
    prefixes = torch.cat([before, torch.from_numpy(steps.codes[chosen])[..., None]], dim=-1)
    return _Beams(np.where(values > -np.inf, slots, -1), prefixes, torch.from_numpy(values.copy()))


def _check_dead_end(beams: _Beams, left: Indices, level: int) -> None:
    stuck = np.flatnonzero((left > 0) & (beams.slots[:, 0] < 0))
    if len(stuck):
        row = int(stuck[0])
        raise ModelError(
            f"dead end at level {level} of row {row}: the policy gives probability zero to every path to the "
            f"{int(left[row])} items left; check its log-probabilities for -inf"
        )


def _padded(rows: int, count: int) -> Generated:
    return Generated(torch.full((rows, count), -1), torch.full((rows, count), -torch.inf))


def _fill(found: Generated, count: int) -> Generated:
    whole = _padded(found.items.shape[0], count)
    whole.items[:, : found.items.shape[1]] = found.items
    whole.code_log_probs[:, : found.items.shape[1]] = found.code_log_probs
    return whole
