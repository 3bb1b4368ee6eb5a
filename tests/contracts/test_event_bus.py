"""One conformance suite for every event bus, across processes where there are such."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Producer

from asterism.core.errors import ConfigError, StorageError, StoreUnavailableError
from asterism.core.records import Action
from asterism.stores import local_bus
from asterism.stores.event_bus import Consumer, Delivery, EventBus, consume
from asterism.stores.event_log import Event, Forget, LocalEventLog
from asterism.stores.kafka_bus import KafkaEventBus, dead_letters
from asterism.stores.local_bus import LocalConsumer, LocalEventBus, buried
from asterism.stores.segments import MAGIC, START, Position, read_on
from asterism.stores.user_state import LocalUserStates, Offset, RecentEvent, Visitor

ODD = Event("é\n\u2028\x00", "⭐'; --", Action.DISLIKE, timestamp=-1, session_id="s\t1", value=1e-300, scene="{}")
GIANT = Event("giant", "x" * 500_000, Action.CLICK, timestamp=0, user_id="ada")


def event(number: int, user_id: str = "ada", action: Action = Action.CLICK) -> Event:
    return Event(f"e{number}", f"i{number}", action, timestamp=number, user_id=user_id)


class Place:
    """Opens the bus of one place, again and again, and reads what was buried there."""

    def __init__(self, opener: Callable[[], EventBus], dead: Callable[[str], list[str]], kind: str) -> None:
        self.opener = opener
        self.dead = dead
        self.kind = kind


@pytest.fixture(params=["local", "kafka"])
def place(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Place:
    if request.param == "local":
        folder = tmp_path / "bus"
        return Place(lambda: LocalEventBus(LocalEventLog(folder), folder), lambda group: buried(folder, group), "local")
    url = f"kafka://{request.getfixturevalue('kafka_brokers')}/{prefix}"
    return Place(
        lambda: KafkaEventBus(url, timeout_seconds=60.0, session_seconds=3.5),
        lambda _: [f"{reason} {raw.decode('utf-8', 'replace')}" for reason, raw in dead_letters(url, 1, 60.0)],
        "kafka",
    )


def read(consumer: Consumer, count: int, seconds: float = 60.0) -> list[Delivery]:
    """So many deliveries, or what there is after a while."""
    found: list[Delivery] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        found += consumer.poll(count - len(found), 0.2)
    return found


def test_a_group_goes_on_where_it_committed_and_another_begins_at_the_start(place: Place) -> None:
    bus = place.opener()
    events = [ODD, GIANT, *(event(number, f"u{number % 4}") for number in range(40))]
    bus.publish(events[:5]).result(60)
    bus.publish([]).result(60)
    with ThreadPoolExecutor(4) as pool:
        for done in pool.map(lambda one: bus.publish([one]), events[5:]):
            done.result(60)
    first = bus.consumer("states")
    given = read(first, 42)
    by_id = {one.event.event_id: one.event for one in given if one.event}
    assert by_id == {one.event_id: one for one in events}
    offsets = [one.offset for one in given]
    assert len(set(offsets)) == 42
    for partition in {one.partition for one in offsets}:
        numbers = [one.number for one in offsets if one.partition == partition]
        assert numbers == sorted(numbers), "offsets grow within a partition"
    first.commit()
    bus.publish([event(100)]).result(60)
    assert [one.event for one in read(first, 1)] == [event(100)]
    first.close()  # the last one was not committed
    again = bus.consumer("states")
    assert [one.event for one in read(again, 1)] == [event(100)]
    again.commit()
    assert again.poll(1, 0.1) == []
    again.close()
    bus.close()


def test_when_an_event_was_published_is_told_where_the_bus_knows_it(place: Place) -> None:
    bus = place.opener()
    before_ms = int(time.time() * 1000)
    bus.publish([event(1)]).result(60)
    after_ms = int(time.time() * 1000)
    consumer = bus.consumer("g")
    (given,) = read(consumer, 1)
    if place.kind == "local":
        assert given.published_at is None
    else:
        assert given.published_at is not None
        assert before_ms <= round(given.published_at * 1000) <= after_ms
    consumer.close()
    bus.close()


def test_a_closed_bus_says_so_at_once_to_whoever_publishes_or_forgets(place: Place) -> None:
    bus = place.opener()
    bus.forget(Forget("ada", 1)).result(60)
    bus.close()
    for late in (lambda: bus.publish([event(1)]), lambda: bus.publish([]), lambda: bus.forget(Forget("ada", 2))):
        with pytest.raises(StorageError, match="is closed; the service is shutting down"):
            late()


def test_the_events_of_one_visitor_keep_their_order(place: Place) -> None:
    bus = place.opener()
    done = [bus.publish([event(10 * number + user, f"u{user}")]) for number in range(30) for user in range(3)]
    for one in done:
        one.result(60)
    consumer = bus.consumer("g")
    given = [one.event for one in read(consumer, 90) if one.event]
    for user in range(3):
        stamps = [one.timestamp for one in given if one.user_id == f"u{user}"]
        assert stamps == [10 * number + user for number in range(30)]
    consumer.close()
    bus.close()


def test_a_poisoned_event_is_buried_and_the_rest_goes_on_and_a_broken_store_stops_all(place: Place) -> None:
    bus = place.opener()
    bus.publish([event(number) for number in range(6)]).result(60)
    consumer = bus.consumer("g")
    seen: list[str] = []
    broken = [True]

    def handle(one: Event, _: Offset) -> None:
        if one.event_id == "e2":
            raise KeyError("poison")
        if one.event_id == "e4" and broken and broken.pop():
            raise StoreUnavailableError("Redis is down")
        seen.append(one.event_id)

    with pytest.raises(StoreUnavailableError):
        consume(consumer, handle, until=lambda: False, pause=lambda _: None)
    consumer.close()
    assert seen == ["e0", "e1", "e3"]
    again = bus.consumer("g")
    assert consume(again, handle, until=lambda: len(seen) >= 8, timeout_seconds=0.2, pause=lambda _: None) == 5
    assert seen[3:] == ["e0", "e1", "e3", "e4", "e5"], "nothing of the broken batch was committed"
    assert again.poll(1, 0.1) == []
    assert "KeyError: 'poison'" in place.dead("g")[0]
    assert "e2" in place.dead("g")[0]
    again.close()
    bus.close()


def test_what_another_program_wrote_is_buried_however_large_it_is(kafka_brokers: str, prefix: str) -> None:
    url = f"kafka://{kafka_brokers}/{prefix}"
    bus = KafkaEventBus(url, timeout_seconds=60.0, session_seconds=3.5)
    bus.publish([event(0)]).result(60)
    other = Producer({"bootstrap.servers": kafka_brokers, "message.max.bytes": 8_000_000})
    other.produce(prefix, b"no event" + bytes(2_000_000), key="ada")
    assert other.flush(60) == 0
    bus.publish([event(1)]).result(60)
    consumer = bus.consumer("g")
    seen: list[str] = []
    consume(consumer, lambda one, _: seen.append(one.event_id), until=lambda: len(seen) == 2, pause=lambda _: None)
    assert seen == ["e0", "e1"]
    [(reason, raw)] = dead_letters(url, 1, 60.0)
    assert "no event" in reason
    assert raw.startswith(b"no event")
    assert 100_000 < len(raw) < 1_000_000
    consumer.close()
    bus.close()


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_states_take_each_event_once_although_it_comes_twice(place: Place) -> None:
    bus = place.opener()
    bus.publish([event(1, action=Action.DISLIKE), Event("e2", "i1", Action.CLICK, 2, "ada")]).result(60)
    states = LocalUserStates()

    def handle(one: Event, offset: Offset) -> None:
        states.apply(Visitor(one.user_id), RecentEvent(one.timestamp, one.item_id, one.action), offset)

    for _ in range(2):
        consumer = bus.consumer("g")
        for delivery in read(consumer, 2):
            assert delivery.event is not None
            handle(delivery.event, delivery.offset)
        consumer.close()
        assert states.get(Visitor("ada")).negative == ()
        assert len(states.get(Visitor("ada")).recent) == 1
    bus.close()


CHILD = """
import sys
from asterism.core.records import Action
from asterism.stores.event_log import Event
from asterism.stores.kafka_bus import KafkaEventBus
bus = KafkaEventBus(sys.argv[1], timeout_seconds=60.0, session_seconds=3.5)
bus.publish([Event(f"e{n}", "i", Action.CLICK, n, f"u{n}") for n in range(20)]).result(60)
print("published", flush=True)
consumer = bus.consumer("g")
found = []
while len(found) < 20:
    found += consumer.poll(20, 1.0)
print("read", len(found), flush=True)
sys.stdin.read()
"""


def test_a_killed_member_of_a_group_loses_nothing(kafka_brokers: str, prefix: str) -> None:
    url = f"kafka://{kafka_brokers}/{prefix}"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "published\n"
        assert child.stdout.readline() == "read 20\n"
        child.kill()
    bus = KafkaEventBus(url, timeout_seconds=60.0, session_seconds=3.5)
    consumer = bus.consumer("g")
    given = read(consumer, 20, seconds=60.0)
    assert sorted(one.event.timestamp for one in given if one.event) == list(range(20))
    consumer.commit()
    consumer.close()
    bus.close()


def test_bytes_that_are_no_event_are_told_apart(kafka_brokers: str, prefix: str) -> None:
    bus = KafkaEventBus(f"kafka://{kafka_brokers}/{prefix}", timeout_seconds=60.0, session_seconds=3.5)
    bus._producer.produce(prefix, b"junk \xff")
    bus._producer.flush(60)
    consumer = bus.consumer("g")
    assert [(one.event, one.raw) for one in read(consumer, 1)] == [(None, b"junk \xff")]
    consumer.close()
    bus.close()


def test_a_kafka_that_is_not_there_is_a_sentence_in_time() -> None:
    bus = KafkaEventBus("kafka://127.0.0.1:1", timeout_seconds=0.5)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"Kafka at kafka://127.0.0.1:1 cannot be reached .*start it"):
        bus.publish([event(1)]).result(60)
    with pytest.raises(StoreUnavailableError):
        bus.version()
    consumer = bus.consumer("g")
    with pytest.raises(StoreUnavailableError):
        read(consumer, 1)
    consumer.close()
    assert time.monotonic() - began < 60
    bus.close()
    with pytest.raises(StorageError, match="closed"):
        bus.publish([event(1)])


def test_what_kafka_has_not_taken_when_the_bus_closes_has_failed() -> None:
    bus = KafkaEventBus("kafka://127.0.0.1:1", timeout_seconds=0.2)
    waiting = [bus.publish([event(1), event(2)]), bus.forget(Forget("ada", 1))]
    bus.close()
    for one in waiting:
        assert one.done()
        assert isinstance(one.exception(), StoreUnavailableError)


def test_consumers_of_another_process_follow_a_log_that_is_written(tmp_path: Path) -> None:
    log = LocalEventLog(tmp_path, segment_bytes=200)
    code = (
        "import sys, pathlib\nfrom asterism.stores.local_bus import LocalConsumer\n"
        "consumer = LocalConsumer(pathlib.Path(sys.argv[1]), 'g')\nfound = []\n"
        "while len(found) < 12:\n    found += consumer.poll(12, 1.0)\n    print(len(found), flush=True)\n"
        "consumer.commit()\nprint([one.event.timestamp for one in found])"
    )
    log.append([event(0), event(1)]).result(60)
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "2\n"
        for number in range(2, 12):
            log.append([event(number)]).result(60)
        assert child.communicate(timeout=120)[0].splitlines()[-1] == str(list(range(12)))
    assert len(list(tmp_path.glob("*.log"))) > 3
    consumer = LocalConsumer(tmp_path, "g")
    log.append([event(12)]).result(60)
    assert [(one.offset.number, one.event) for one in consumer.poll(5, 1.0)] == [(12, event(12))]
    with pytest.raises(StorageError, match="group 'g' has a member already"):
        LocalConsumer(tmp_path, "g")
    consumer.close()
    log.close()


def test_a_commit_in_the_middle_of_a_frame_holds(tmp_path: Path) -> None:
    log = LocalEventLog(tmp_path)
    log.append([event(number) for number in range(5)]).result(60)
    consumer = LocalConsumer(tmp_path, "g")
    consumer.poll(3, 0.1)
    consumer.commit()
    consumer.poll(1, 0.1)
    consumer.close()
    again = LocalConsumer(tmp_path, "g")
    assert [one.offset.number for one in again.poll(9, 0.1)] == [3, 4]
    again.close()
    log.close()


def test_what_lies_behind_is_counted_once_however_often_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LocalEventLog(tmp_path, segment_bytes=500)
    for number in range(40):
        log.append([event(2 * number), event(2 * number + 1)]).result(60)
    consumer = LocalConsumer(tmp_path, "g")
    consumer.poll(3, 0.1)
    consumer.commit()
    consumer.close()
    consumer = LocalConsumer(tmp_path, "g")
    frames: list[bytes] = []

    def counted(folder: Path, position: Position) -> Iterator[tuple[bytes, Position]]:
        for payload, behind in read_on(folder, position):
            frames.append(payload)
            yield payload, behind

    monkeypatch.setattr(local_bus, "read_on", counted)
    for given in range(10, 80, 7):
        assert len(consumer.poll(7, 0.1)) == 7
        assert consumer.lag() == 80 - given
    log.append([event(80)]).result(60)
    assert consumer.lag() == 81 - given
    assert len(frames) <= 2 * 41, "each is read for its events and for the count"
    consumer.close()
    log.close()


def test_a_frame_that_is_being_written_is_waited_for_and_damage_is_named(tmp_path: Path) -> None:
    log = LocalEventLog(tmp_path, segment_bytes=1)
    log.append([event(0)]).result(60)
    log.append([event(1)]).result(60)
    log.close()
    first, last = sorted(tmp_path.glob("*.log"))
    whole = last.read_bytes()
    for cut in (1, 3, 8, len(whole) - 1):
        last.write_bytes(whole[:cut])
        assert len(list(read_on(tmp_path, START))) == 1
    last.write_bytes(b"not the start of a frame" + MAGIC)
    with pytest.raises(StorageError, match="is damaged"):
        list(read_on(tmp_path, START))
    last.write_bytes(whole)
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(StorageError, match="is damaged"):
        list(read_on(tmp_path, START))


def test_an_odd_group_and_a_broken_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot name a group"):
        LocalConsumer(tmp_path, "../g")
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "g.json").write_text("{")
    for _ in range(2):
        with pytest.raises(StorageError, match="delete it, and the group reads everything again"):
            LocalConsumer(tmp_path, "g")
    (tmp_path / "groups" / "g.json").unlink()
    LocalConsumer(tmp_path, "g").close()
