"""What alignment asks: events that training has seen, or events that were held out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import TrainingError
from asterism.data.preferences import ACTION_VALUE_OF_CODE, PreferencePairs
from asterism.data.sequences import Asked, Cases, Sequences


@dataclass(frozen=True, slots=True)
class Questions:
    """Cases, and what the log says of each beside the item that was taken."""

    cases: Cases
    values: NDArray[np.float32]  # (cases,) what was done with the target is worth this much
    rejected: NDArray[np.int32]  # (cases, R) items liked less nearby, -1 where padded
    earlier: Sequences  # the training events before all that is asked for

    def __len__(self) -> int:
        return len(self.cases)


def newest_questions(train: Sequences, newest: int, pairs: PreferencePairs | None = None) -> Questions:
    """Ask for the `newest` last events of every row of `train`, each from the events before it.

    The newest ones are nearest in time to what will be served. A row's first event is not asked for. Raises
    `TrainingError` where no row has two events.
    """
    lengths = np.minimum(train.lengths - 1, newest).clip(min=0)
    if not lengths.any():
        raise TrainingError("no user has two training events, so alignment has nothing to ask for; give more data")
    rows = np.repeat(np.arange(len(train)), lengths)
    ends = np.repeat(train.offsets[1:] - lengths, lengths) + _counting(lengths)
    starts = np.repeat(train.offsets[:-1], lengths)
    histories = replace(train.slices(starts, ends, rows), asked=_asked(train, ends))
    cases = Cases(histories, rows.astype(np.int32), train.items[ends], train.timestamps[ends], train.actions[ends])
    rejected = np.full((len(rows), 1), -1, dtype=np.int32) if pairs is None else pairs.rejected[ends]
    return Questions(cases, _values(cases), rejected, train.slices(train.offsets[:-1], train.offsets[1:] - lengths))


def held_out_questions(validation: Cases, train: Sequences, share: float, seed: int) -> tuple[Questions, Cases]:
    """A `share` of the validation cases as questions, and the others, by which alignment is then steered.

    The policy was not trained on these events, so what it learns of them is not what it knows by heart. Raises
    `TrainingError` where one side would have no case.
    """
    order = np.random.default_rng([seed, 3]).permutation(len(validation))
    count = round(share * len(order))
    if not 0 < count < len(order):
        raise TrainingError(
            f"alignment.held_out = {share:g} of {len(order)} validation cases leaves {count} to ask for and "
            f"{len(order) - count} to steer by; both need some, so take another share or 0"
        )
    asked = validation.take(np.sort(order[:count]))
    rejected = np.full((count, 1), -1, dtype=np.int32)  # what was left near them belongs to no training event
    return Questions(asked, _values(asked), rejected, train), validation.take(np.sort(order[count:]))


def _values(cases: Cases) -> NDArray[np.float32]:
    """(cases,) what was done with each target is worth this much."""
    return ACTION_VALUE_OF_CODE[cases.actions].astype(np.float32)


def _counting(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … for each run of so many."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _asked(train: Sequences, events: NDArray[np.int64]) -> Asked:
    return Asked(
        train.timestamps[events],
        None if train.scenes is None else train.scenes[events],
        None if train.devices is None else train.devices[events],
    )
