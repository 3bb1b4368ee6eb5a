"""What a split hands on: train sequences, and the questions of validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asterism.core.ids import IdMap
from asterism.data.sequences import Cases, Sequences

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Split:
    """A data set cut into what may be learned from and what is asked.

    Item indices count the whole catalogue (also items that nobody touched in training); row u of
    `train` holds user u's training events. Only positive actions (core.records.POSITIVE_ACTIONS)
    enter sequences and targets.
    """

    users: IdMap
    items: IdMap
    train: Sequences
    validation: Cases
    test: Cases

    def cases(self, name: SplitName) -> Cases:
        """The cases of `validation` or `test`; raises `ValueError` for `train`."""
        if name == "validation":
            return self.validation
        if name == "test":
            return self.test
        raise ValueError("the training part has no cases; ask for `validation` or `test`")
