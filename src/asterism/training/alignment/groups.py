"""Groups of items that have signal, on their way from roll-outs to steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asterism.training.alignment.distribution import Candidates
from asterism.training.alignment.lessons import Figures, Rows


class Tally(NamedTuple):
    """How the policy did on the questions of a roll-out, for those of its groups that are still here."""

    questions: float  # that the figures stand for, those without signal among them
    groups: int  # of these questions, here
    figures: Figures


class Groups(NamedTuple):
    """B groups, ready to be learned from."""

    rows: Rows  # (B,) their questions
    candidates: Candidates
    picked: Tensor  # (B, G) the group's places among the candidates
    present: Tensor  # (B, G)
    advantages: Tensor  # (B, G)
    reference: Tensor  # (B, G, T) the reference's log-probabilities
    tallies: tuple[Tally, ...]  # of the roll-outs they are from, in the order of the groups

    def part(self, rows: slice, tallies: tuple[Tally, ...] = ()) -> Groups:
        """Some of them, with the tallies that go with them."""
        return Groups(
            rows=self.rows[rows],
            candidates=self.candidates.rows(torch.arange(len(self.rows))[rows]),
            picked=self.picked[rows],
            present=self.present[rows],
            advantages=self.advantages[rows],
            reference=self.reference[rows],
            tallies=tallies,
        )

    def as_dict(self) -> dict[str, Any]:
        """Tensors and numbers, for a checkpoint."""
        plain = {"rows": torch.from_numpy(self.rows), "candidates": list(self.candidates)}
        return self._asdict() | plain | {"tallies": [(*one[:2], list(one.figures)) for one in self.tallies]}

    @classmethod
    def of_dict(cls, state: dict[str, Any]) -> Groups:
        """What `as_dict` wrote."""
        tallies = tuple(Tally(questions, groups, Figures(*one)) for questions, groups, one in state["tallies"])
        rebuilt = {"rows": state["rows"].numpy(), "candidates": Candidates(*state["candidates"]), "tallies": tallies}
        return cls(**state | rebuilt)


def joined(first: Groups, second: Groups) -> Groups:
    """Groups of two roll-outs, one below the other."""
    ours, theirs = first.candidates.of_history, second.candidates.of_history
    both = None if ours is None or theirs is None else torch.cat([ours, theirs])
    return Groups(
        rows=np.concatenate([first.rows, second.rows]),
        candidates=Candidates(torch.cat([first.candidates.items, second.candidates.items]), both),
        picked=torch.cat([first.picked, second.picked]),
        present=torch.cat([first.present, second.present]),
        advantages=torch.cat([first.advantages, second.advantages]),
        reference=torch.cat([first.reference, second.reference]),
        tallies=first.tallies + second.tallies,
    )


def split(groups: Groups, count: int) -> tuple[Groups, Groups | None]:
    """The first `count` groups, and the others if there are any; each question is told of on one side alone."""
    taken, left = _shared(groups.tallies, count)
    first = groups.part(slice(None, count), taken)
    return first, groups.part(slice(count, None), left) if count < len(groups.rows) else None


def averaged(tallies: tuple[Tally, ...]) -> Figures:
    """Means over the questions that the tallies stand for."""
    total = sum(one.questions for one in tallies)
    return Figures(
        *(sum(one.questions * one.figures[at] for one in tallies) / total for at in range(len(Figures._fields)))
    )


def _shared(tallies: tuple[Tally, ...], count: int) -> tuple[tuple[Tally, ...], tuple[Tally, ...]]:
    """Tallies of the first `count` groups and of the others; one with groups on both sides is divided by them.

    A roll-out without any group goes with the first, so that it is told of at once.
    """
    taken, left = [], []
    for one in tallies:
        here = min(one.groups, count)
        count -= here
        share = here / one.groups if one.groups else 1.0
        if share > 0:
            taken.append(Tally(one.questions * share, here, one.figures))
        if share < 1:
            left.append(Tally(one.questions * (1 - share), one.groups - here, one.figures))
    return tuple(taken), tuple(left)
