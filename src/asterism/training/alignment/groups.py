"""Groups of items that have signal, on their way from roll-outs to steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asterism.training.alignment.distribution import Candidates
from asterism.training.alignment.lessons import Figures, Rows


class Groups(NamedTuple):
    """B groups, ready to be learned from."""

    rows: Rows  # (B,) their questions
    candidates: Candidates
    picked: Tensor  # (B, G) the group's places among the candidates
    present: Tensor  # (B, G)
    advantages: Tensor  # (B, G)
    reference: Tensor  # (B, G, T) the reference's log-probabilities
    figures: tuple[tuple[int, Figures], ...]  # of the batches they are from, groups without signal among them

    def part(self, rows: slice) -> Groups:
        """Some of them."""
        return Groups(
            rows=self.rows[rows],
            candidates=self.candidates.rows(torch.arange(len(self.rows))[rows]),
            picked=self.picked[rows],
            present=self.present[rows],
            advantages=self.advantages[rows],
            reference=self.reference[rows],
            figures=self.figures,
        )

    def as_dict(self) -> dict[str, Any]:
        """Tensors and numbers, for a checkpoint."""
        plain = {"rows": torch.from_numpy(self.rows), "candidates": list(self.candidates)}
        return self._asdict() | plain | {"figures": [(count, list(one)) for count, one in self.figures]}

    @classmethod
    def of_dict(cls, state: dict[str, Any]) -> Groups:
        """What `as_dict` wrote."""
        figures = tuple((count, Figures(*one)) for count, one in state["figures"])
        rebuilt = {"rows": state["rows"].numpy(), "candidates": Candidates(*state["candidates"]), "figures": figures}
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
        figures=first.figures + second.figures,
    )


def split(groups: Groups, count: int) -> tuple[Groups, Groups | None]:
    """The first `count` groups, and the others if there are any."""
    first = groups.part(slice(None, count))
    return first, groups.part(slice(count, None)) if count < len(groups.rows) else None


def averaged(figures: tuple[tuple[int, Figures], ...]) -> Figures:
    """Means of batches' figures, each batch counting by its questions."""
    total = sum(count for count, _ in figures)
    return Figures(
        *(sum(count * one[place] for count, one in figures) / total for place in range(len(Figures._fields)))
    )
