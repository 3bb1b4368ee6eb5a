"""What alignment asks: each user's newest training events, from the histories before them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import TrainingError
from asterism.data.preferences import ACTION_VALUE_OF_CODE, PreferencePairs
from asterism.data.sequences import Asked, Cases, Sequences


@dataclass(frozen=True, slots=True)
class Questions:
    """Cases of the training time, and what the log says of each beside the item that was taken."""

    cases: Cases
    values: NDArray[np.float32]  # (cases,) what was done with the target is worth this much
    rejected: NDArray[np.int32]  # (cases, R) items liked less nearby, -1 where padded
    earlier: Sequences  # the users' training events before all that is asked for

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
    cases = Cases(histories, rows.astype(np.int32), train.items[ends], train.timestamps[ends])
    values = ACTION_VALUE_OF_CODE[train.actions[ends]].astype(np.float32)
    rejected = np.full((len(rows), 1), -1, dtype=np.int32) if pairs is None else pairs.rejected[ends]
    return Questions(cases, values, rejected, train.slices(train.offsets[:-1], train.offsets[1:] - lengths))


def _counting(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … for each run of so many."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _asked(train: Sequences, events: NDArray[np.int64]) -> Asked:
    return Asked(
        train.timestamps[events],
        None if train.scenes is None else train.scenes[events],
        None if train.devices is None else train.devices[events],
    )
