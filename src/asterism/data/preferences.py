"""What a user preferred to what: each training event beside items that the same user left or liked less nearby."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.config.run import SplitMethod
from asterism.core import records
from asterism.core.records import ACTION_CODES, Action
from asterism.data.repeats import codes_of
from asterism.data.split import Split

#: What an action says of the item; a pair needs a difference, and the chosen action's value is its weight.
ACTION_VALUES: Final[dict[Action, int]] = {
    Action.DISLIKE: -1,
    Action.SKIP: 0,
    Action.IMPRESSION: 0,
    Action.CLICK: 1,
    Action.VIEW: 1,
    Action.RATING: 1,
    Action.CART: 2,
    Action.FAVORITE: 2,
    Action.SHARE: 2,
    Action.PURCHASE: 3,
}
NEAR_SECONDS: Final = 30 * 60  # the usual gap between two sessions
REJECTED_PER_EVENT: Final = 4  # the nearest in the user's log
_REACH: Final = 20  # rows of the user's log that are looked at, before and after the event

ACTION_VALUE_OF_CODE: Final = np.array([ACTION_VALUES[action] for action in records.ACTIONS], dtype=np.int8)


@dataclass(frozen=True, slots=True)
class PreferencePairs:
    """Row e belongs to event e of the training sequences."""

    rejected: NDArray[np.int32]  # (events, REJECTED_PER_EVENT) dense item index, -1 where there is no pair
    weights: NDArray[np.float32]  # (events,) value of the action that was taken

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return int((self.rejected >= 0).sum())


@dataclass(frozen=True, slots=True)
class _Rows:
    """Events of any kind, and the training event that each one is, or -1."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.int8]
    train_events: NDArray[np.int64]


def preference_pairs(interactions: pa.Table, split: Split, method: SplitMethod) -> PreferencePairs:
    """Pair training events with the nearest items that the user liked less, at most 30 minutes before or after.

    An item counts by the most valuable thing the user did to it in training, or as disliked if it ever was, so that
    what was shown today and bought tomorrow is not held against it. Nothing newer than a user's newest training event
    is looked at, nor, under `by_column`, a row outside the training part.
    """
    rows = _by_user_and_time(_signals(interactions, split, method), _training_rows(split))
    verdicts = _verdicts(rows, len(split.items))
    rejected = np.full((split.train.events, REJECTED_PER_EVENT), -1, dtype=np.int32)
    weights = np.zeros(split.train.events, dtype=np.float32)
    chosen = np.flatnonzero((rows.train_events >= 0) & (rows.values > 0) & (verdicts >= 0))
    if len(chosen):
        rejected[rows.train_events[chosen]] = _nearest_lesser(rows, verdicts, chosen)
        weights[rows.train_events[chosen]] = rows.values[chosen]
    return PreferencePairs(rejected, weights)


def _training_rows(split: Split) -> _Rows:
    train = split.train
    return _Rows(
        users=np.repeat(np.arange(len(train)), train.lengths),
        items=train.items.astype(np.int64),
        timestamps=train.timestamps,
        values=ACTION_VALUE_OF_CODE[train.actions],
        train_events=np.arange(train.events),
    )


def _signals(interactions: pa.Table, split: Split, method: SplitMethod) -> _Rows:
    """Impressions, skips and dislikes of the training time, which no sequence holds."""
    positive = pa.array([one.value for one in records.POSITIVE_ACTIONS])
    wanted = pc.invert(pc.is_in(interactions[records.ACTION], positive))
    if method == "by_column":
        wanted = pc.and_(wanted, pc.equal(interactions[records.SPLIT].fill_null(""), "train"))
    table = interactions.filter(wanted)
    user_codes, user_ids = codes_of(table[records.USER_ID])
    item_codes, item_ids = codes_of(table[records.ITEM_ID])
    action_codes, actions = codes_of(table[records.ACTION])
    values = np.array([ACTION_VALUE_OF_CODE[ACTION_CODES[one]] for one in actions.to_pylist()], dtype=np.int8)
    found = _Rows(
        users=split.users.encode(user_ids.to_pylist()).astype(np.int64)[user_codes],
        items=split.items.encode(item_ids.to_pylist()).astype(np.int64)[item_codes],
        timestamps=table[records.TIMESTAMP].to_numpy(),
        values=values[action_codes],
        train_events=np.full(len(table), -1, dtype=np.int64),
    )
    return _taken(found, np.flatnonzero(found.timestamps <= _newest_training(split)[found.users]))


def _newest_training(split: Split) -> NDArray[np.int64]:
    """(users,) the moment of each user's newest training event; before all time for a user without one."""
    newest = np.full(len(split.train), np.iinfo(np.int64).min)
    some = split.train.lengths > 0
    newest[some] = split.train.timestamps[split.train.offsets[1:][some] - 1]
    return newest


def _by_user_and_time(first: _Rows, second: _Rows) -> _Rows:
    """All rows in order; of one second, those of `first` stand before: an impression before what it led to."""
    both = _Rows(
        users=np.concatenate([first.users, second.users]),
        items=np.concatenate([first.items, second.items]),
        timestamps=np.concatenate([first.timestamps, second.timestamps]),
        values=np.concatenate([first.values, second.values]),
        train_events=np.concatenate([first.train_events, second.train_events]),
    )
    return _taken(both, np.lexsort((both.timestamps, both.users)))


def _taken(rows: _Rows, picked: NDArray[np.int64]) -> _Rows:
    return _Rows(
        rows.users[picked], rows.items[picked], rows.timestamps[picked], rows.values[picked], rows.train_events[picked]
    )


def _verdicts(rows: _Rows, catalogue_size: int) -> NDArray[np.int8]:
    """(rows,) the value of each row's item to its user over all rows: the highest, or -1 where one is below zero."""
    _, pair = np.unique(rows.users * catalogue_size + rows.items, return_inverse=True)
    best = np.full(pair.max(initial=-1) + 1, -1, dtype=np.int8)
    np.maximum.at(best, pair, rows.values)
    best[pair[rows.values < 0]] = -1
    return best[pair]


def _nearest_lesser(rows: _Rows, verdicts: NDArray[np.int8], chosen: NDArray[np.int64]) -> NDArray[np.int32]:
    """(chosen, REJECTED_PER_EVENT) the nearest different items of less value, those before the event first."""
    picked = np.full((len(chosen), REJECTED_PER_EVENT), -1, dtype=np.int32)
    filled = np.zeros(len(chosen), dtype=np.int64)
    for distance in range(1, _REACH + 1):
        for step in (-distance, distance):
            others = np.clip(chosen + step, 0, len(rows.users) - 1)
            lesser = (
                (others == chosen + step)
                & (rows.users[others] == rows.users[chosen])
                & (np.abs(rows.timestamps[others] - rows.timestamps[chosen]) <= NEAR_SECONDS)
                & (verdicts[others] < rows.values[chosen])
                & (filled < REJECTED_PER_EVENT)
                & ~(picked == rows.items[others][:, None]).any(axis=1)
            )
            where = np.flatnonzero(lesser)
            picked[where, filled[where]] = rows.items[others[where]]
            filled[where] += 1
    return picked
