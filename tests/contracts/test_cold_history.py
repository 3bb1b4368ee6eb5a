"""One conformance suite for the cold history: the engine inside a process, and behind the network."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asterism.core.errors import StorageError, StoreUnavailableError
from asterism.core.records import Action
from asterism.stores.cold_history import ColdHistory, ItemDay, event_rows
from asterism.stores.event_log import Event
from asterism.stores.reaching import Tries
from serving.running import wait_until

NOW = int(time.time())
DAY = 86_400
ODD = Event(
    "é\n\u2028\x00", "⭐'; DROP TABLE events; --", Action.DISLIKE, NOW, session_id="\\ \t{x:String}", value=-0.5
)


def event(number: int, user_id: str | None = "ada", day: int = 0) -> Event:
    return Event(
        f"e{number}", f"i{number % 3}", Action.CLICK, NOW - day * DAY + number, user_id, None, 1.5, "home", "a"
    )


@pytest.fixture(params=["chdb", "clickhouse"], scope="module")
def opened(request: pytest.FixtureRequest) -> Iterator[ColdHistory]:
    history = ColdHistory(request.getfixturevalue(f"{request.param}_url"))
    yield history
    history.close()


@pytest.fixture
def history(opened: ColdHistory) -> ColdHistory:
    """Empty."""
    for table in ("events", "daily_items"):
        opened._call(lambda client, table=table: client.command(f"TRUNCATE TABLE {table}"))
    return opened


def all_events(history: ColdHistory, rows: int = 100_000) -> list[Event]:
    return [one for table in history.events(-(2**40), 2**40, rows) for one in event_rows(table)]


def test_events_come_out_by_visitor_and_time_as_they_went_in(history: ColdHistory) -> None:
    events = [event(5), event(1), event(3, "bob"), event(2), ODD]
    history.append(events)
    history.append([])
    assert all_events(history) == [ODD, event(1), event(2), event(5), event(3, "bob")]
    assert [one for table in history.events(NOW + 2, NOW + 5) for one in event_rows(table)] == [
        event(2),
        event(3, "bob"),
    ]
    assert len(history) == 5


def test_a_batch_that_is_written_twice_counts_once_also_by_day(history: ColdHistory) -> None:
    events = [event(number, f"u{number % 2}") for number in range(6)]
    history.append(events)
    history.append(events[:4])
    assert len(history) == len(all_events(history)) == 6
    today = [one for one in history.daily(date.fromtimestamp(NOW - 2 * DAY), date.fromtimestamp(NOW + 2 * DAY))]
    assert sum(one.events for one in today) == 6
    assert {one.item_id: (one.events, one.visitors) for one in today} == {f"i{one}": (2, 2) for one in range(3)}


def test_an_event_that_was_sent_again_later_counts_once(history: ColdHistory) -> None:
    first, again = event(1), replace(event(1), timestamp=NOW + 40 * DAY)
    history.append([first, event(2)])
    history.append([again])
    assert all_events(history) == [event(2), again], "a client without a clock of its own, that asked twice"
    assert len(history) == 2


def test_days_are_in_utc_and_their_range_holds_both_ends(history: ColdHistory) -> None:
    midnight = NOW - NOW % DAY
    for number, at in enumerate((midnight - 1, midnight, midnight + DAY - 1)):
        history.append([Event(f"e{number}", "i", Action.PURCHASE, at, "ada")])
    today, yesterday = (date.fromordinal(date(1970, 1, 1).toordinal() + NOW // DAY - back) for back in (0, 1))
    assert history.daily(today, today) == [ItemDay(today, "i", Action.PURCHASE, 2, 1)]
    assert [one.day for one in history.daily(yesterday, today)] == [yesterday, today]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["ada", "bob", None])), max_size=30),
    rows=st.integers(1, 7),
)
def test_pages_of_any_size_give_every_event_once(
    history: ColdHistory, numbers: list[tuple[int, str | None]], rows: int
) -> None:
    for table in ("events", "daily_items"):
        history._call(lambda client, table=table: client.command(f"TRUNCATE TABLE {table}"))
    events = {Event(f"e{number}", "i", Action.CLICK, NOW + number % 5, user_id, "s") for number, user_id in numbers}
    history.append(list(events))
    given_out = all_events(history, rows)
    assert len(given_out) == len(events)
    assert set(given_out) == events


def test_what_is_too_old_leaves_and_the_days_stay(history: ColdHistory) -> None:
    history.append([event(1), event(2, day=800)])

    def has_left() -> bool:  # while a merge is under way, it may do nothing
        history._call(lambda client: client.command("OPTIMIZE TABLE events FINAL"))
        return all_events(history) == [event(1)]

    wait_until(has_left)
    days = history.daily(date.fromtimestamp(NOW - 802 * DAY), date.fromtimestamp(NOW + DAY))
    assert sum(one.events for one in days) == 2


def test_a_batch_of_more_than_a_hundred_months_is_taken_whole(history: ColdHistory) -> None:
    history._call(lambda client: client.command("ALTER TABLE events REMOVE TTL"))
    try:
        history.append([event(number, day=31 * number) for number in range(105)])
        assert len(history) == 105
    finally:
        history._call(lambda client: client.command("TRUNCATE TABLE events"))  # or all months would be read again
        ttl = "ALTER TABLE events MODIFY TTL toDateTime(toDateTime64(timestamp, 0, 'UTC')) + toIntervalDay(730)"
        history._call(lambda client: client.command(ttl))


def test_a_forgotten_user_is_gone(history: ColdHistory) -> None:
    history.append([event(1), event(2, "bob"), event(3, "x' OR '1'='1")])
    history.forget("x' OR '1'='1")
    history.forget("ada")
    assert all_events(history) == [event(2, "bob")]


def test_many_events_are_one_batch(history: ColdHistory) -> None:
    events = [event(number, f"u{number % 100}") for number in range(20_000)]
    history.append(events)
    assert sum(table.num_rows for table in history.events(0, 2**40, rows=7_000)) == 20_000


def test_what_was_written_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import sys, os\nfrom asterism.stores.cold_history import ColdHistory\n"
        "from asterism.stores.event_log import Event\nfrom asterism.core.records import Action\n"
        "history = ColdHistory(sys.argv[1])\nprint(len(history), flush=True)\n"
        f"history.append([Event(f'e{{n}}', 'i', Action.CLICK, {NOW} + n, 'ada') for n in range(100)])\n"
        "os.kill(os.getpid(), 9)"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", code, f"chdb:{tmp_path / 'cold'}"], capture_output=True, timeout=60
        ).stdout
        for _ in range(2)
    ]
    assert seen == [b"0\n", b"100\n"]


def test_a_second_process_is_refused(chdb_url: str) -> None:
    history = ColdHistory(chdb_url)
    code = "import sys\nfrom asterism.stores.cold_history import ColdHistory\nColdHistory(sys.argv[1])"
    ended = subprocess.run([sys.executable, "-c", code, chdb_url], capture_output=True, text=True, timeout=60)
    assert "in use by another process, and chDB serves one" in ended.stderr
    history.close()


def test_a_clickhouse_that_is_dead_or_deaf_is_a_sentence_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        for port in (deaf.getsockname()[1], 1):
            began = time.monotonic()
            with pytest.raises(
                StoreUnavailableError, match=rf"ClickHouse at clickhouse://a:\*\*\*@127.0.0.1:{port} cannot"
            ):
                ColdHistory(f"clickhouse://a:secret@127.0.0.1:{port}", timeout_seconds=1.0, tries=Tries(1))
            assert time.monotonic() - began < 20


def test_an_answer_that_refuses_is_told(history: ColdHistory) -> None:
    with pytest.raises(StorageError, match="refused"):
        history._call(lambda client: client.command("SELECT nonsense"))
