"""Cuts a data set into training sequences and the questions of validation and test."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.config.run import DataConfig
from asterism.core import records
from asterism.core.errors import DataError
from asterism.core.ids import IdMap
from asterism.data.attributes import UserAttributes
from asterism.data.contexts import context_codes, event_values
from asterism.data.dataset import Dataset
from asterism.data.repeats import codes_of, unknown_values
from asterism.data.sequences import Asked, Cases, Sequences
from asterism.data.split import Split

_Number = TypeVar("_Number", bound=np.generic)

_LOG = logging.getLogger(__name__)

SMALLEST_SPLITTABLE = 3  # events: one to learn from, one to validate on, one to test on


@dataclass(frozen=True, slots=True)
class _Log:
    """All positive events, row u those of user u from oldest to newest."""

    users: IdMap
    items: IdMap
    events: Sequences
    parts: NDArray[np.object_] | None  # (events,) the `split` column, None where there is none

    @property
    def user_of_event(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.events)), self.events.lengths)

    def cases_at(self, targets: NDArray[np.int64]) -> Cases:
        """One case for each event position: its history is everything its user did before it."""
        users = self.user_of_event[targets]
        asked = Asked(
            self.events.timestamps[targets],
            None if self.events.scenes is None else self.events.scenes[targets],
            None if self.events.devices is None else self.events.devices[targets],
        )
        histories = self.events.slices(self.events.offsets[:-1][users], targets, users)
        return Cases(
            histories=replace(histories, asked=asked),
            users=users.astype(np.int32),
            targets=self.events.items[targets],
            timestamps=asked.timestamps,
            actions=self.events.actions[targets],
        )


def split_dataset(dataset: Dataset, config: DataConfig) -> Split:
    """Split by the configuration's method.

    An item's index is its row in the items table (items known from interactions only come after, in
    first-seen order); a user's index is the order in which users first appear. Raises `DataError`
    where the data cannot be split that way.
    """
    if config.split == "by_column":
        return by_column(dataset)
    if config.split == "by_time":
        return by_time(dataset, config.validation_share, config.test_share)
    return leave_one_out(dataset)


def leave_one_out(dataset: Dataset) -> Split:
    """Each user's newest event is the test target, the one before it the validation target, the rest is training.

    The test history includes the validation event. Users with fewer than three events keep them all
    for training and pose no case. No user's training events are later than that user's targets, but
    time leaks between users: what others did after a target's moment is learned from.
    """
    log = _ordered_log(dataset)
    splittable = np.flatnonzero(log.events.lengths >= SMALLEST_SPLITTABLE)
    last = log.events.offsets[1:]
    train_stops = last.copy()
    train_stops[splittable] -= 2
    return Split(
        users=log.users,
        items=log.items,
        train=log.events.slices(log.events.offsets[:-1], train_stops),
        validation=log.cases_at(last[splittable] - 2),
        test=log.cases_at(last[splittable] - 1),
    )


def by_time(dataset: Dataset, validation_share: float, test_share: float) -> Split:
    """Cut all users' events at two moments; each user's first event of a later part is that user's case there.

    The newest `test_share` of events are the test part, the `validation_share` before them the
    validation part; events of one second stay together in the later part. A history holds everything
    before its target, so a test history shows the validation part's events too, and is empty for a
    user who is new. Nothing leaks: no training event, of any user, is as late as any target. Events
    after a user's first one in a part are neither learned from nor asked.
    """
    log = _ordered_log(dataset)
    if test_share <= 0 or validation_share <= 0 or validation_share + test_share >= 1:
        shares = f"validation_share {validation_share} and test_share {test_share}"
        raise DataError(f"{shares} leave a part without events; both must be above 0 and their sum below 1")
    times = np.sort(log.events.timestamps)
    test_from = _start_of_newest(times, round(len(times) * test_share))
    earlier = times[times < test_from]
    validation_from = _start_of_newest(earlier, round(len(times) * validation_share)) if len(earlier) else test_from
    in_train = log.events.timestamps < validation_from
    in_test = log.events.timestamps >= test_from
    in_validation = ~in_train & ~in_test
    for part, mask in (("training", in_train), ("validation", in_validation)):
        if not mask.any():
            raise DataError(
                f"no event falls into the {part} part because too many share one timestamp; use leave_one_out",
                field=records.TIMESTAMP,
            )
    return Split(
        users=log.users,
        items=log.items,
        train=log.events.only(in_train),
        validation=log.cases_at(_first_of_each_user(log, in_validation)),
        test=log.cases_at(_first_of_each_user(log, in_test)),
    )


def by_column(dataset: Dataset) -> Split:
    """Take the cut from the `split` column: every row marked validation or test is a case.

    A case's history is everything its user did before it, whatever the part. What leaks is up to the
    column: nothing where its parts follow each other in time. Where a user has a training event later
    than one of their own targets the cut is taken as it is, and a warning is logged. Raises
    `DataError` on a missing column or an empty cell.
    """
    log = _ordered_log(dataset)
    if log.parts is None:
        raise DataError("the interactions have no such column; add it, or split by leave_one_out", field=records.SPLIT)
    is_part = {part: log.parts == part for part in ("train", "validation", "test")}
    unmarked = int(len(log.parts) - sum(mask.sum() for mask in is_part.values()))
    if unmarked:
        raise DataError(f"{unmarked} interactions are in no part; fill the column", field=records.SPLIT)
    _warn_of_later_training(log, is_part["train"])
    return Split(
        users=log.users,
        items=log.items,
        train=log.events.only(is_part["train"]),
        validation=log.cases_at(np.flatnonzero(is_part["validation"])),
        test=log.cases_at(np.flatnonzero(is_part["test"])),
    )


def _ordered_log(dataset: Dataset) -> _Log:
    interactions = dataset.interactions
    user_codes, user_ids = codes_of(interactions[records.USER_ID])
    item_codes, touched = codes_of(interactions[records.ITEM_ID])
    catalogue = dataset.items[records.ITEM_ID]
    items = IdMap([*catalogue.to_pylist(), *unknown_values(touched, catalogue).to_pylist()])
    positive = _is_positive(interactions)
    if not positive.any():
        actions = ", ".join(sorted(one.value for one in records.POSITIVE_ACTIONS))
        raise DataError(f"no event is a positive one ({actions}), so there is nothing to learn", field=records.ACTION)
    users = user_codes[positive]
    timestamps: NDArray[np.int64] = interactions[records.TIMESTAMP].to_numpy()[positive]
    order = _by_user_and_time(users, timestamps)
    offsets = np.concatenate(([0], np.cumsum(np.bincount(users, minlength=len(user_ids)))))
    events = Sequences(
        offsets=offsets.astype(np.int64),
        items=items.encode(touched.to_pylist()).astype(np.int32)[item_codes[positive][order]],
        timestamps=timestamps[order],
        actions=_action_codes(interactions[records.ACTION])[positive][order],
        values=_kept(event_values(interactions), positive, order),
        scenes=_kept(context_codes(interactions, records.SCENE), positive, order),
        devices=_kept(context_codes(interactions, records.DEVICE), positive, order),
        attributes=_attributes(dataset.users, user_ids),
    )
    return _Log(IdMap(user_ids.to_pylist()), items, events, _parts(interactions, positive, order))


def _by_user_and_time(users: NDArray[np.int64], timestamps: NDArray[np.int64]) -> NDArray[np.int64]:
    """The stable order by user, then time; an imported log is in order of time for each user, which halves the work."""
    order = np.argsort(users, kind="stable")
    same_user = users[order][1:] == users[order][:-1]
    in_time = not np.any(same_user & (np.diff(timestamps[order]) < 0))
    return order if in_time else np.lexsort((timestamps, users))


def _is_positive(interactions: pa.Table) -> NDArray[np.bool_]:
    positive = pa.array([one.value for one in records.POSITIVE_ACTIONS])
    mask: NDArray[np.bool_] = pc.is_in(interactions[records.ACTION], positive).to_numpy()
    return mask


def _action_codes(column: pa.ChunkedArray) -> NDArray[np.int8]:
    codes, distinct = codes_of(column)
    return np.array([records.ACTION_CODES[one] for one in distinct.to_pylist()], dtype=np.int8)[codes]


def _kept(
    column: NDArray[_Number] | None, positive: NDArray[np.bool_], order: NDArray[np.int64]
) -> NDArray[_Number] | None:
    return None if column is None else column[positive][order]


def _attributes(users: pa.Table | None, user_ids: pa.Array) -> NDArray[np.int32] | None:
    known = None if users is None else UserAttributes.of(users)
    return None if known is None else known.rows(user_ids.to_pylist())


def _parts(interactions: pa.Table, positive: NDArray[np.bool_], order: NDArray[np.int64]) -> NDArray[np.object_] | None:
    if records.SPLIT not in interactions.column_names:
        return None
    codes, distinct = codes_of(interactions[records.SPLIT].fill_null(""))
    names = np.array(distinct.to_pylist(), dtype=object)
    return names[codes[positive][order]]


def _start_of_newest(times: NDArray[np.int64], events: int) -> int:
    """The moment at which the newest `events` (at least one) of ascending times begin."""
    return int(times[max(0, len(times) - max(1, events))])


def _first_of_each_user(log: _Log, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    positions = np.flatnonzero(mask)
    _, firsts = np.unique(log.user_of_event[positions], return_index=True)
    return positions[firsts]


def _warn_of_later_training(log: _Log, in_train: NDArray[np.bool_]) -> None:
    limits = np.iinfo(np.int64)
    users, times = log.user_of_event, log.events.timestamps
    newest_train = np.full(len(log.users), limits.min)
    np.maximum.at(newest_train, users[in_train], times[in_train])
    oldest_target = np.full(len(log.users), limits.max)
    np.minimum.at(oldest_target, users[~in_train], times[~in_train])
    leaking = np.flatnonzero(newest_train > oldest_target)
    if len(leaking):
        _LOG.warning(
            "column `%s`: %d users, such as %r, have a training event later than one of their targets, so what "
            "followed the target is learned from; mark the parts in order of time",
            records.SPLIT, len(leaking), log.users.id_of(int(leaking[0])),
        )  # fmt: skip
