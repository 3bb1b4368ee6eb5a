"""Groups of items that a policy draws for its questions: legal, and none that the user had before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asterism.config.run import Rollouts
from asterism.data.sequences import Cases, Sequences
from asterism.decoding.beam import beam_search
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.snapshot import TrieSnapshot
from asterism.models.policy import Policy, read_histories
from asterism.training.alignment.distribution import Candidates, ItemDistribution
from asterism.training.alignment.lessons import encoded


@dataclass(frozen=True, slots=True)
class Roller:
    """Asks a policy for candidates by the beam search that serves."""

    view: TrieSnapshot
    distribution: ItemDistribution
    count: int  # candidates a question

    @torch.inference_mode()
    def candidates(self, policy: Policy, cases: Cases, *, keep_truth: bool) -> tuple[Tensor, Candidates]:
        """The user states (B, D), and the beam's items (B, C) on the CPU, those of the history excluded.

        With `keep_truth` the item that was taken is among them: where the beam has missed it, in the last place. The
        policy must be in evaluation mode.
        """
        histories = read_histories(policy, cases.histories)
        state = encoded(policy, cases)
        targets = torch.from_numpy(cases.targets).long()
        exclusions = _history_but_targets(self.view, cases)
        items = beam_search(policy, state, self.view, self.count, self.count, exclusions).items
        if keep_truth:
            missed = ~(items == targets[:, None]).any(dim=1)
            items[missed, -1] = targets[missed]
        return state, self.distribution.candidates(histories, items)


def draw_group(scores: Tensor, size: int, rollouts: Rollouts, keep: Tensor | None, chances: Tensor) -> Tensor:
    """(B, G) the places of a group's items among candidates of `scores` (B, C), best first.

    `beam` takes the G = min(size, C) best, which are different; `sample` draws G = size from the softmax of the scores,
    with replacement, as a policy gradient without importance weights needs it: by `chances` (B, size), uniform in 0 to
    1. Where `keep` (B, C) is True for one candidate of a row, that one is in the group.
    """
    if rollouts == "sample":
        reached = scores.double().softmax(dim=1).cumsum(dim=1)
        picked = torch.searchsorted(reached, chances.double() * reached[:, -1:], right=True)
        if keep is not None:
            some = keep.any(dim=1)
            picked[some, -1] = keep[some].long().argmax(dim=1)
    else:
        keys = scores if keep is None else scores.masked_fill(keep, torch.inf)
        picked = keys.topk(min(size, scores.shape[1]), dim=1).indices
    order = scores.gather(1, picked).argsort(dim=1, descending=True, stable=True)
    return picked.gather(1, order)


def _history_but_targets(view: TrieSnapshot, cases: Cases) -> Exclusions:
    """What each user had, save the item asked for: a repeat is an answer, not a mistake."""
    histories: Sequences = cases.histories
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    items = histories.items.astype(np.int64)
    others = items != cases.targets[rows]
    return Exclusions.of_pairs(view, rows[others], items[others])
