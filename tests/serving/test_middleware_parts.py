"""The parts of the gate one by one: trace context, nesting, headers, leases, the key ring, patience."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from asterism.core.clock import ManualClock
from asterism.core.errors import StoreUnavailableError
from asterism.serving.http.connections import PatientConnection
from asterism.serving.http.errors import UnauthenticatedError
from asterism.serving.http.middleware.json_depth import is_nested_deeper
from asterism.serving.http.middleware.key_ring import KeyRing
from asterism.serving.http.middleware.limits import LEASE_SECONDS, LeasedLimits, TokenBucket
from asterism.serving.http.middleware.security_headers import SECURITY_HEADERS, secured
from asterism.serving.http.middleware.trace_context import continued, passed_on
from asterism.stores.api_keys import Changes, LocalApiKeys, new_key
from asterism.stores.rate_limits import Grant, LocalRateLimits, Rate

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", "01"),
        (f"00-{TRACE}-{SPAN}-00", "00"),
        (f"00-{TRACE}-{SPAN}-03", "01"),
        (f" 00-{TRACE}-{SPAN}-01\t", "01"),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-holds", "01"),
    ],
)
def test_a_trace_is_continued_with_a_span_of_our_own(header: str, flags: str) -> None:
    context = continued(header.encode())
    found = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-{flags}", context.traceparent)
    assert found
    assert (context.trace_id, context.parent_span) == (TRACE, SPAN)
    assert found[1] != SPAN


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"00-xyz-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01-more".encode(),
        f"00-{TRACE}-{SPAN}-01\r\nx-evil: 1".encode(),
        f"00-{TRACE}-{SPAN}".encode(),
        b"\xff" * 55,
    ],
)
def test_what_is_no_trace_begins_a_new_one(header: bytes | None) -> None:
    first, second = continued(header), continued(header)
    assert re.fullmatch(r"[0-9a-f]{32}", first.trace_id)
    assert re.fullmatch(rf"00-{first.trace_id}-[0-9a-f]{{16}}-00", first.traceparent)
    assert TRACE not in (first.trace_id, second.trace_id)
    assert (first.parent_span, first.trace_id == second.trace_id) == (None, False)


def test_a_trace_state_is_passed_on_whole_or_not_at_all() -> None:
    assert passed_on([(b"tracestate", b"a=1"), (b"host", b"x"), (b"tracestate", b"b=2")]) == "a=1,b=2"
    for bad in (b"", b"a=\xff", b"a=1\r\nx: y", b"a" * 513):
        assert passed_on([(b"tracestate", bad)]) is None


def depth(value: Any) -> int:
    """The slow twin: by a walk over the parsed value."""
    if isinstance(value, dict):
        return 1 + max((depth(one) for one in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(one) for one in value), default=0)
    return 0


texts = st.text(alphabet=st.sampled_from('[]{}"\\ aé\n'), max_size=6)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=30,
)


@given(value=values, most=st.integers(0, 6), indent=st.sampled_from([None, 1]))
@settings(max_examples=400)
def test_nesting_is_what_a_parser_would_find(value: Any, most: int, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    assert is_nested_deeper(text, most) == (depth(value) > most)


def test_nesting_at_the_limit_and_over_it() -> None:
    for levels, is_over in ((32, False), (33, True), (100_000, True)):
        assert is_nested_deeper(b"[" * levels + b"]" * levels) == is_over
        assert is_nested_deeper(b'{"a":' * levels + b"1" + b"}" * levels) == is_over
    assert is_nested_deeper(b"[" * 33)
    assert not is_nested_deeper(b'{"a": [1]},' * 10_000)
    assert not is_nested_deeper(b'"' + b"[" * 500 + b'"')


def test_a_large_body_is_weighed_in_milliseconds() -> None:
    event = {"user_id": "u" * 20, "item_id": 'with "quotes" [and] {more}', "context": {"tags": ["a", "b"]}}
    body = json.dumps({"events": [event] * 7000}).encode()
    assert not is_nested_deeper(body)

    def least_seconds(action: Callable[[bytes], object]) -> float:
        def timed() -> float:
            began = time.thread_time()
            action(body)
            return time.thread_time() - began

        return min(timed() for _ in range(5))

    assert least_seconds(is_nested_deeper) < 3 * least_seconds(json.loads), "no dearer than what follows"


def test_security_headers_are_added_where_an_answer_has_none_of_its_own() -> None:
    plain = dict(secured([(b"content-type", b"x")]))
    assert {name.encode(): value.encode() for name, value in SECURITY_HEADERS.items()} == {
        name: value for name, value in plain.items() if name != b"content-type"
    }
    own = secured([(b"x-frame-options", b"SAMEORIGIN")])
    assert [value for name, value in own if name == b"x-frame-options"] == [b"SAMEORIGIN"]
    assert len(own) == len(SECURITY_HEADERS)


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    clock = ManualClock(50.0)
    bucket = TokenBucket(Rate(per_second=2.0, burst=3), clock.now)
    assert [bucket.take(1) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.advance(1.0)
    assert [bucket.take(3), bucket.take(2)] == [0.5, 0.0]
    clock.advance(100.0)
    assert [bucket.take(3), bucket.take(1)] == [0.0, 0.5]


class CountingLimits(LocalRateLimits):
    """Counts round trips; fails on demand."""

    calls = 0
    is_down = False

    def lease(self, key: str, rate: Rate, most: int, least: int = 1) -> Grant:
        self.calls += 1
        if self.is_down:
            raise StoreUnavailableError("gone")
        return super().lease(key, rate, most, least)


async def passed(limits: LeasedLimits, rate: Rate, cost: int = 1) -> bool:
    wait = limits.take("ada", rate, cost)
    return not (await limits.renewed("ada", rate, cost) if wait is None else wait)


def test_replicas_together_let_through_what_the_bucket_gives_at_a_few_round_trips() -> None:
    clock = ManualClock(1000.0)
    shared = CountingLimits(clock)
    replicas = [LeasedLimits(shared, clock.now) for _ in range(3)]
    rate = Rate(per_second=1000.0, burst=1000)

    async def flood() -> list[int]:
        each_tenth = []
        for _ in range(30):
            through = 0
            for _ in range(200):
                clock.advance(0.0005)
                for replica in replicas:
                    through += await passed(replica, rate)
            each_tenth.append(through)
        return each_tenth

    through = asyncio.run(flood())
    total, seconds = sum(through), 3.0
    assert total <= 1000 + 1000 * seconds
    assert total >= 0.98 * (1000 + 1000 * seconds)
    bound = 100 + len(replicas) * LEASE_SECONDS * rate.per_second
    assert max(through[20:]) <= bound, "what was leased before is all that may come on top"
    assert shared.calls < total / 5


def test_a_key_that_asks_seldom_takes_no_more_than_it_uses() -> None:
    clock = ManualClock(1000.0)
    shared = CountingLimits(clock)
    rate = Rate(per_second=100.0, burst=100)

    async def seldom() -> None:
        limits = LeasedLimits(shared, clock.now)
        for _ in range(10):
            clock.advance(2.0)
            assert await passed(limits, rate)

    asyncio.run(seldom())
    assert shared.lease("ada", rate, 1000).tokens == 99


def test_requests_at_the_same_time_share_one_round_trip() -> None:
    shared = CountingLimits(ManualClock(0.0))

    async def together() -> list[bool]:
        limits = LeasedLimits(shared, ManualClock(9.0).now)
        return await asyncio.gather(*(passed(limits, Rate(100.0, 100), 10) for _ in range(12)))

    assert asyncio.run(together()).count(True) == 10
    assert shared.calls <= 12


def test_a_shut_bucket_is_not_asked_again_before_its_time() -> None:
    clock = ManualClock(0.0)
    shared = CountingLimits(clock)

    async def again() -> list[bool]:
        limits = LeasedLimits(shared, clock.now)
        answers = [await passed(limits, Rate(1.0, 1)) for _ in range(50)]
        clock.advance(1.0)
        return [*answers, await passed(limits, Rate(1.0, 1))]

    assert asyncio.run(again()) == [True, *[False] * 49, True]
    assert shared.calls == 3


def test_without_its_store_each_instance_has_the_whole_rate_and_asks_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock(0.0)
    shared = CountingLimits(clock)
    shared.is_down = True

    async def blind() -> int:
        limits = LeasedLimits(shared, clock.now)
        return sum([await passed(limits, Rate(10.0, 10)) for _ in range(40)])

    assert (asyncio.run(blind()), shared.calls) == (10, 1)
    assert "for each instance alone" in caplog.text


@pytest.fixture
def ring() -> Iterator[tuple[KeyRing, LocalApiKeys, ManualClock, ManualClock]]:
    keys, clock, monotonic = LocalApiKeys(), ManualClock(7200.5), ManualClock(0.0)
    made = KeyRing(keys, clock, refresh_seconds=0.005, grace_seconds=300.0, monotonic=monotonic.now)
    yield made, keys, clock, monotonic
    made.close()


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_when_a_key_was_used_last_is_kept_by_the_hour(
    ring: tuple[KeyRing, LocalApiKeys, ManualClock, ManualClock],
) -> None:
    one, keys, clock, _ = ring
    key, token = new_key("x", frozenset({"recommend"}), 0.0)
    keys.add(key)
    wait_for(lambda: not one.is_empty)
    for hour in (7200, 10_800):
        one.key_of(token.encode())
        wait_for(lambda expected=hour: keys.all()[0].last_used_at == expected)
        clock.advance(3600.0)


def test_what_was_known_holds_for_a_while_without_the_store(
    ring: tuple[KeyRing, LocalApiKeys, ManualClock, ManualClock],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, keys, _, monotonic = ring
    key, token = new_key("x", frozenset({"recommend"}), 0.0)
    keys.add(key)
    wait_for(lambda: not one.is_empty)

    def gone(number: int) -> Changes:
        raise StoreUnavailableError("no database")

    monkeypatch.setattr(keys, "changes_after", gone)
    wait_for(lambda: "cannot be read: no database" in caplog.text)
    monotonic.advance(299.0)
    assert one.key_of(token.encode()) == key
    with pytest.raises(UnauthenticatedError):
        one.key_of(new_key("y", frozenset(), 0.0).token.encode())
    monotonic.advance(2.0)
    with pytest.raises(StoreUnavailableError, match="too long"):
        one.key_of(token.encode())
    monkeypatch.undo()
    wait_for(lambda: one._holds_until > monotonic.now())
    assert one.key_of(token.encode()) == key


def test_a_follower_survives_what_nobody_foresaw(
    ring: tuple[KeyRing, LocalApiKeys, ManualClock, ManualClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, keys, _, _ = ring
    asked: list[int] = []

    def broken(number: int) -> Changes:
        asked.append(number)
        raise ZeroDivisionError

    monkeypatch.setattr(keys, "changes_after", broken)
    wait_for(lambda: len(asked) > 2)
    monkeypatch.undo()
    keys.add(new_key("x", frozenset(), 0.0).key)
    wait_for(lambda: not one.is_empty)


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Impatient(PatientConnection):
    patience_seconds = 0.5


@contextlib.asynccontextmanager
async def served() -> Any:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = uvicorn.Config(answering, http=Impatient, lifespan="off", log_config=None, timeout_keep_alive=30)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([taken]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield taken.getsockname()[1]
        server.should_exit = True
        await serving


HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("parts", "answers"),
    [
        ([], 0),
        ([b"\r\n"], 0),
        ([HEAD], 0),
        ([b"G", b"E", b"T", b" "], 0),
        ([HEAD + b"\r\n", HEAD], 1),
        ([b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1", b"2"], 1),
    ],
)
def test_half_a_request_is_not_waited_for(parts: list[bytes], answers: int) -> None:
    async def talk() -> tuple[bytes, float]:
        async with served() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began = time.monotonic()
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.02)
            said = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            return said, time.monotonic() - began

    said, seconds = asyncio.run(talk())
    assert said.count(b"200 OK") == answers
    assert 0.1 < seconds < 20.0


def test_a_connection_between_requests_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Impatient, "patience_seconds", 1.5)  # far more than between two parts

    async def talk() -> list[bytes]:
        async with served() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            said = []
            for parts, pause in (([HEAD, b"\r\n"], 1.7), ([HEAD + b"\r\n"], 1.7), ([HEAD + b"\r\n"], 0.0)):
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(0.05)
                said.append(await reader.read(1000))
                await asyncio.sleep(pause)
            writer.close()
            return said

    assert [b"200 OK" in one for one in asyncio.run(talk())] == [True] * 3
