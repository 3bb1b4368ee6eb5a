"""Users' states between requests: what was seen before is not read again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from asterism.core.errors import ConfigError
from asterism.decoding.cache_tiers import Tier
from asterism.decoding.doorkeeper import Doorkeeper
from asterism.models.histories import HistoryBatch
from asterism.models.ugt.inference import InferenceUGT
from asterism.models.ugt.inference.resumption import (
    Limits,
    NewEvents,
    advance,
    can_resume,
    count_new,
    fingerprints,
    memory_shape,
    remember,
    rows_of,
)
from asterism.models.ugt.inference.whole import Keeping

#: A user with more new events than this is computed anew, which then costs little more.
_MOST_NEW: Final = 8
#: How many users that came once are remembered by name for each that finds room.
_MET_FOR_EACH_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """How much a `StateCache` may hold, and how far it may go; see there."""

    max_bytes: int
    compressed_share: float = 0.5
    most_slides: int = 0
    only_returning: bool = False


@dataclass(slots=True)
class CacheCounts:
    """What became of the users that were asked for with a key."""

    repeated: int = 0  # nothing new since
    advanced: int = 0  # by one new event or a few
    warmed: int = 0  # were held compressed
    passing: int = 0  # of those missed, not kept either, as they had not come before
    missed: int = 0  # not held, changed, shortened, with too many new events, or due for a full computation
    evicted: int = 0  # thrown away to make room


class StateCache:
    """Keeps users' keys and values for one model; another model, or another version of it, has a cache of its own.

    At most `max_bytes` are held: a part of them users as they are, the rest users that were not asked for lately,
    compressed to int8. Who was asked for longest ago is compressed, then thrown away; where one compiled call reads a
    whole history (`InferenceEncoder.whole`) nobody is compressed. A user is found by key and by
    fingerprints of all events that the model reads: any other history than the remembered one, followed by a few new
    events, is computed anew. While a history is no longer than the model reads, the answer is that of a full
    computation, up to rounding. Beyond that an event leaves with each that comes; after `most_slides` of these all
    is computed anew, and with 0 there are no answers but those of full computations. With `only_returning` a user is
    kept from the second time on that they are asked for: see `Doorkeeper`.

    Safe to use from several threads, one at a time. A model that reads what cannot be resumed is asked in full.
    """

    def __init__(self, policy: InferenceUGT, limits: CacheLimits) -> None:
        """`compressed_share` of the bytes hold cold users; raise `ConfigError` if not one user finds room."""
        max_bytes = limits.max_bytes
        self.counts = CacheCounts()
        self.resumes = can_resume(policy.encoder.model.shape.model)
        self._policy = policy
        self._encoder = policy.encoder
        self._limits = Limits(_MOST_NEW, limits.most_slides)
        self._lock = threading.Lock()
        # To take a user out of compression, and another one in, costs several times what one compiled call costs that
        # reads a history anew: there all room is for users as they are.
        cold_bytes = int(max_bytes * limits.compressed_share) if self._encoder.whole is None else 0
        hot = memory_shape(self._encoder, compressed=False)
        if self.resumes and max_bytes - cold_bytes < hot.bytes:
            raise ConfigError(
                f"{max_bytes} bytes, {cold_bytes} of them for compressed users, hold no user of this model, "
                f"which takes {hot.bytes}; give the cache more memory"
            )
        self._hot = Tier(hot, max_bytes - cold_bytes if self.resumes else 0)
        self._cold = Tier(memory_shape(self._encoder, compressed=True), cold_bytes if self.resumes else 0)
        room = self._hot.capacity + self._cold.capacity
        self._doorkeeper = Doorkeeper(_MET_FOR_EACH_KEPT * room) if limits.only_returning else None

    @property
    def bytes(self) -> int:
        """What the users that are held take."""
        return self._hot.bytes + self._cold.bytes

    def __len__(self) -> int:
        """How many users are held."""
        return len(self._hot) + len(self._cold)

    def __contains__(self, key: str) -> bool:
        return key in self._hot or key in self._cold

    def forget(self, keys: Sequence[str]) -> None:
        """Drop users, whether they are held or not."""
        with self._lock:
            for tier in (self._hot, self._cold):
                tier.forget([key for key in dict.fromkeys(keys) if key in tier])
            if self._doorkeeper is not None:
                for key in keys:
                    self._doorkeeper.forget(key)

    @torch.inference_mode()
    def encode(self, histories: HistoryBatch, keys: Sequence[str | None]) -> Tensor:
        """(B, S) the states that `policy.encode` gives; a row without a key is neither looked up nor kept."""
        if len(keys) != len(histories):
            raise ValueError(f"{len(keys)} keys for {len(histories)} histories; give one for each, or None")
        if not self.resumes:
            return self._policy.encode(histories)
        with self._lock:
            return self._encoder.finish(histories, self._newest(histories, keys))

    def _newest(self, histories: HistoryBatch, keys: Sequence[str | None]) -> Tensor:
        """(B, D) what the blocks make of the newest events."""
        row_of = self._row_of(histories, keys)
        self._warm([key for key in row_of if key in self._cold], row_of)
        prints = fingerprints(histories, self._encoder.max_events)
        new = self._new_events(row_of, prints)
        if len(new) == len(histories):  # then they are in the order of rows
            return self._resumed(histories, prints, row_of, new)
        missed = {key: row for key, row in row_of.items() if key not in new}
        if not new:
            return self._read(histories, prints, missed, row_of)
        found = torch.empty(len(histories), self._hot.memory.shape.width)
        held = [row_of[key] for key in new]
        found[held] = self._resumed(histories, prints, row_of, new)
        rows = sorted(set(range(len(histories))).difference(held))
        place_of = {row: place for place, row in enumerate(rows)}
        placed = {key: place_of[row] for key, row in missed.items()}
        found[rows] = self._read(rows_of(histories, torch.tensor(rows)), prints[rows], placed, row_of)
        return found

    def _read(self, histories: HistoryBatch, prints: Tensor, missed: dict[str, int], busy: dict[str, int]) -> Tensor:
        """(n, D) of histories that are read anew; of the `missed` users' rows, those are kept that may enter."""
        entering = [key for key in missed if self._may_enter(key)]
        self.counts.missed += len(missed)
        self.counts.passing += len(missed) - len(entering)
        if not entering:
            return self._encoder.newest(histories)
        self._hot.forget([key for key in entering if key in self._hot])
        slots = torch.full((len(histories),), -1)
        slots[[missed[key] for key in entering]] = self._make_room(entering, busy)
        try:
            return remember(self._encoder, histories, Keeping(self._hot.memory, slots, prints))
        except BaseException:  # what stands in their slots is not theirs
            self._hot.forget(entering)
            raise

    def _may_enter(self, key: str) -> bool:
        return self._doorkeeper is None or key in self._hot or self._doorkeeper.lets_in(key)

    def _row_of(self, histories: HistoryBatch, keys: Sequence[str | None]) -> dict[str, int]:
        """The rows that the cache answers: one a user, none without events, no more than find room."""
        rows: dict[str, int] = {}
        for row, (key, newest) in enumerate(zip(keys, histories.items[:, -1].tolist(), strict=True)):
            if key is not None and newest >= 0 and key not in rows and len(rows) < self._hot.capacity:
                rows[key] = row
        return rows

    def _new_events(self, row_of: dict[str, int], prints: Tensor) -> dict[str, int]:
        """How many events are new, of the users whose remembered history the others are."""
        held = [key for key in row_of if key in self._hot]
        if not held:
            return {}
        rows = torch.tensor([row_of[key] for key in held])
        new = count_new(self._hot.memory, self._hot.slots_of(held), prints, rows, self._limits).tolist()
        return {key: count for key, count in zip(held, new, strict=True) if count >= 0}

    def _resumed(self, histories: HistoryBatch, prints: Tensor, row_of: dict[str, int], new: dict[str, int]) -> Tensor:
        """(n, D) of the users that are held, once their new events are taken in, the oldest of these first."""
        self.counts.repeated += sum(count == 0 for count in new.values())
        self.counts.advanced += sum(count > 0 for count in new.values())
        for back in range(max(new.values()), 0, -1):
            keys = [key for key, count in new.items() if count >= back]
            rows = torch.tensor([row_of[key] for key in keys])
            slots = self._hot.slots_of(keys)
            advance(self._encoder, self._hot.memory, slots, NewEvents(histories, prints, rows, back))
        return self._hot.memory.states[self._hot.slots_of(list(new))]

    def _warm(self, keys: list[str], busy: dict[str, int]) -> None:
        if keys:
            self.counts.warmed += len(keys)
            users = self._cold.take(keys)
            self._hot.memory.put(self._make_room(keys, busy), users)

    def _make_room(self, keys: list[str], busy: dict[str, int]) -> Tensor:
        """(n,) slots for users who come in, for whom those asked for longest ago leave, none of the `busy` ones.

        Who leaves is compressed, and in turn takes the room of compressed ones.
        """
        leaving = self._hot.oldest(len(keys), busy)
        lost = max(0, len(leaving) - self._cold.capacity)
        cooled = leaving[lost:]
        self._hot.forget(leaving[:lost])
        gone = self._cold.oldest(len(cooled), ())
        self._cold.forget(gone)
        self.counts.evicted += lost + len(gone)
        if cooled:
            self._cold.memory.put(self._cold.admit(cooled), self._hot.take(cooled))
        return self._hot.admit(keys)
