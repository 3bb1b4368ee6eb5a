"""Diverse beam search: groups of items, each steered away from the codes of the groups before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import RequestError
from asterism.decoding.admission import Admission
from asterism.decoding.beam import Generated
from asterism.decoding.candidates import Beams, expand
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.selection import by_position, select_top
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.steps import admission_of, by_item, check_dead_end, go_on, items_of, next_log_probs
from asterism.decoding.trie_layout import Indices
from asterism.models.policy import Policy


@dataclass(frozen=True, slots=True)
class Groups:
    """How a diverse search divides its answer."""

    number: int
    size: int  # items of each
    width: int = 1  # of each group's beam, or `size` where that is more
    strength: float = 0.5  # λ, in units of log-probability

    def __post_init__(self) -> None:
        if min(self.number, self.size, self.width) < 1:
            raise RequestError(
                f"{self.number} groups of {self.size} items by beams of {self.width} were asked for; "
                "each number must be 1 or more"
            )
        if not (np.isfinite(self.strength) and self.strength >= 0):
            raise RequestError(f"the strength of diversity is {self.strength}; give a number of 0 or more")


def diverse_beam_search(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    groups: Groups,
    exclusions: Exclusions | None = None,
    filters: Sequence[ItemFilter | None] = (),
) -> Generated:
    """`groups.number` times `groups.size` distinct items for states (B, D), group by group.

    Group g keeps, after each level l, the paths with the largest Σ_{s ≤ l} (log p(c_s | c_<s) − λ n_g(c_s, s)), where
    n_g(c, s) counts the beams of the groups before g whose code at level s is c: diverse beam search with its Hamming
    penalty (Vijayakumar et al. 2016), which a path keeps on later levels. Unlike there an item goes to one group only:
    the next groups never enter a prefix below which they would find nothing new. The first is an ordinary beam search.
    Within a group the largest sums stand first, of equal ones the lower item index. Errors are those of `beam_search`.
    """
    view.require_items()
    rows = state.shape[0]
    taken = Exclusions.none() if exclusions is None else exclusions
    used = [np.zeros((rows, size), dtype=np.int64) for size in view.layout.sizes]
    items = np.full((rows, groups.number * groups.size), -1, dtype=np.int64)
    log_probs = np.full(items.shape, -np.inf, dtype=np.float32)
    for group in range(groups.number):
        admission = admission_of(view, rows, taken, filters)
        columns = slice(group * groups.size, (group + 1) * groups.size)
        items[:, columns], log_probs[:, columns] = _search(policy, state, view, groups, admission, used)
        owners, places = np.nonzero(items[:, columns] >= 0)
        if len(owners) == 0:
            break
        taken = _with(view, taken, owners, items[:, columns][owners, places])
    return Generated(torch.from_numpy(items), torch.from_numpy(log_probs))


def _search(
    policy: Policy,
    state: Tensor,
    view: TrieSnapshot,
    groups: Groups,
    admission: Admission | None,
    used: list[Indices],
) -> tuple[Indices, NDArray[np.float32]]:
    """One group's items and log-probabilities (B, size); its beams' codes are added to `used`."""
    rows = state.shape[0]
    left = np.ones(rows, dtype=np.bool_) if admission is None else admission.rows_left
    beams, owed = Beams.at_root(left), np.zeros((rows, 1))
    for level in range(view.layout.levels):
        if not left.any():
            break
        last = level == view.layout.levels - 1
        found = expand(view, level, beams, next_log_probs(policy, state, view, beams.codes), admission)
        at = np.nonzero(found.scores != -np.inf)
        origins, codes = found.beams_and_codes(found.at(*at))
        penalties = np.zeros(found.scores.shape)
        penalties[at] = owed.ravel()[origins] + groups.strength * used[level][at[0], codes]
        width = groups.size if last else max(groups.width, groups.size)
        keys = by_item(view, beams, found) if last else by_position
        best = select_top(torch.from_numpy(found.scores - penalties), width, keys)
        beams, chosen = go_on(view, beams, found, best, np.full(rows, width))
        check_dead_end(beams, left, level)
        owed = np.zeros(beams.starts.shape)
        owed[chosen.rows, chosen.columns] = penalties[chosen.rows, chosen.positions]
        np.add.at(used[level], (chosen.rows, chosen.codes), 1)
    return items_of(view, beams, groups.size)


def _with(view: TrieSnapshot, taken: Exclusions, rows: Indices, items: Indices) -> Exclusions:
    return Exclusions.of_pairs(view, np.concatenate([taken.rows, rows]), np.concatenate([taken.items, items]))
