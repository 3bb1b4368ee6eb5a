"""What becomes of a batch: poison is buried, the rest dealt with, and a store that refuses everything is to blame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.errors import DataError, StorageError, StoreUnavailableError
from asterism.core.records import Action
from asterism.serving.worker.batches import Arrival, Tally, deal_with
from asterism.stores.event_bus import Consumer, Delivery
from asterism.stores.event_log import Event, Forget, LocalEventLog
from asterism.stores.local_bus import LocalEventBus, buried
from asterism.stores.reaching import full
from asterism.stores.user_state import Offset


def event(number: int) -> Event:
    return Event(f"e{number}", f"i{number}", Action.CLICK, timestamp=number, user_id="ada")


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[Consumer]:
    bus = LocalEventBus(LocalEventLog(tmp_path), tmp_path)
    bus.publish([event(number) for number in range(5)]).result(60)
    member = bus.consumer("g")
    yield member
    member.close()
    bus.close()


class Store:
    """Takes events, but those whose ids it was told to refuse, for the reason it was told."""

    has_more = False

    def __init__(self, refused: dict[str, Exception]) -> None:
        self.refused = refused
        self.taken: list[str] = []
        self.tries: list[list[str]] = []

    def __call__(self, batch: Sequence[Arrival]) -> None:
        ids = [one.event.event_id for one in batch]
        self.tries.append(ids)
        for one in ids:
            if one in self.refused:
                raise self.refused[one]
        self.taken += ids

    def forget(self, user_id: str) -> None:
        self.taken.append(f"forget {user_id}")

    def close(self) -> None:
        pass


def test_who_is_forgotten_is_so_between_what_came_before_and_after(tmp_path: Path) -> None:
    bus = LocalEventBus(LocalEventLog(tmp_path / "bus"), tmp_path / "bus")
    bus.publish([replace(event(1), user_id="bob")]).result(60)
    bus.forget(Forget("ada", 3)).result(60)
    bus.publish([event(4)]).result(60)
    member = bus.consumer("g")
    store = Store({})
    assert deal_with(member, member.poll(10, 1), store) == Tally(2, 0)
    assert store.taken == ["e1", "forget ada", "e4"]
    member.close()
    bus.close()


def test_a_handler_hears_where_and_when_each_event_was_published(consumer: Consumer) -> None:
    heard: list[Arrival] = []

    class Hearing(Store):
        def __call__(self, batch: Sequence[Arrival]) -> None:
            heard.extend(batch)

    deliveries = [Delivery(event(n), Offset("p", n), b"", published_at=at) for n, at in enumerate((7.5, None))]
    deal_with(consumer, deliveries, Hearing({}))
    assert heard == [Arrival(event(0), Offset("p", 0), 7.5), Arrival(event(1), Offset("p", 1), None)]


def test_a_good_batch_is_handled_at_once(consumer: Consumer) -> None:
    store = Store({})
    assert deal_with(consumer, consumer.poll(10, 1), store) == Tally(5, 0)
    assert store.tries == [["e0", "e1", "e2", "e3", "e4"]]


def test_poison_is_buried_after_three_tries_and_the_rest_is_taken(consumer: Consumer, tmp_path: Path) -> None:
    store = Store({"e1": DataError("too large"), "e3": StorageError("refused")})
    garbage = Delivery(None, Offset("local", 9), b"\xff{")
    pauses: list[float] = []
    assert deal_with(consumer, [*consumer.poll(10, 1), garbage], store, pauses.append) == Tally(3, 3)
    assert (store.taken, pauses) == (["e0", "e2", "e4"], [0.05, 0.1])
    assert store.tries.count(["e1"]) == 3
    reasons = buried(tmp_path, "g")
    assert ["DataError: too large" in reasons[0], "refused" in reasons[1], "no event" in reasons[2]] == [True] * 3


def test_a_store_that_refuses_everything_is_to_blame_and_nothing_is_buried(consumer: Consumer, tmp_path: Path) -> None:
    store = Store({f"e{number}": StorageError("the disk is full") for number in range(5)})
    with pytest.raises(StorageError, match="disk is full"):
        deal_with(consumer, consumer.poll(10, 1), store)
    assert buried(tmp_path, "g") == []


def test_a_store_that_has_room_for_one_now_and_then_has_none_buried(consumer: Consumer, tmp_path: Path) -> None:
    store = Store({"e0": full("no room"), "e3": full("no room")})
    with pytest.raises(StorageError, match="no room"):
        deal_with(consumer, consumer.poll(10, 1), store)
    assert buried(tmp_path, "g") == [], "all of it comes again"


def test_a_store_that_goes_down_while_poison_is_looked_for_stops_the_search(consumer: Consumer, tmp_path: Path) -> None:
    store = Store({"e1": KeyError("poison"), "e3": StoreUnavailableError("down")})
    with pytest.raises(StoreUnavailableError):
        deal_with(consumer, consumer.poll(10, 1), store, lambda _: None)
    assert buried(tmp_path, "g") == [], "it comes again with the batch"
