"""The lane answers what the ordinary way would answer, never what it would refuse, and gives way to everything odd."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from asterism.config.guard import GuardConfig
from asterism.serving.http.connections import QuickConnection
from asterism.serving.http.gate import Gate
from asterism.serving.http.hot.heads import UNREAD, Heads
from serving.lane_house import (
    Answer,
    Door,
    House,
    Visitor,
    learnt,
    opened,
    request,
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("lane")) as found:
        yield found


PLAIN: list[Any] = [
    {"user_id": "u1"},
    {"user_id": "u1", "count": 3},
    {"user_id": "u2", "count": 30, "scene": "home", "context": {"device": "phone"}},
]


@pytest.mark.parametrize("body", PLAIN)
def test_a_plain_request_is_answered_by_the_lane_from_its_third_time_on_and_as_before(house: House, body: Any) -> None:
    async def story() -> None:
        async with house.door() as door, house.door(lane=False) as plain:
            first, second = await door.enter(), await plain.enter()
            wire = request(body)
            ordinary = [await second.ask(wire) for _ in range(2)][-1]
            found = [await first.ask(wire) for _ in range(6)]
            assert door.by_lane == [False, False, True, True, True, True]
            assert {len(one.headers) for one in found} == {len(ordinary.headers)}
            for one in found:
                assert one.comparable == ordinary.comparable
                assert json.loads(one.body)["trace_id"].encode() == one.header(b"x-trace-id")
                assert re.fullmatch(b"00-%b-[0-9a-f]{16}-00" % one.header(b"x-trace-id"), one.header(b"traceparent"))
            given = [json.loads(one.body)["data"] for one in found]
            assert (
                len({one["attribution_id"] for one in given}) == len({one.header(b"x-trace-id") for one in found}) == 6
            )
            assert [one["cached"] for one in given[1:]] == [True] * 5
            other = await door.enter()  # the head is known from elsewhere
            assert (await other.ask(wire)).comparable == ordinary.comparable
            assert door.by_lane[-1]

    house.run(story())


def test_feedback_is_heard_by_the_next_request(house: House) -> None:
    async def story() -> None:
        async with house.door() as door:
            visitor, wire = await door.enter(), request({"user_id": "u3"})
            await learnt(visitor, wire)
            before = json.loads((await visitor.ask(wire)).body)["data"]["items"][0]["item_id"]
            click = {"user_id": "u3", "item_id": before, "action": "dislike"}
            assert (await visitor.ask(request(click, path="/api/v1/feedback"))).status == 200
            after = json.loads((await visitor.ask(wire)).body)["data"]
            assert door.by_lane[-1] is False
            assert before not in {one["item_id"] for one in after["items"]}

    house.run(story())


ODD: list[tuple[str, bytes]] = [
    (
        "a trace with a state",
        request({"user_id": "u1"}, f"traceparent: 00-{'a' * 32}-{'b' * 16}-00", "tracestate: a=b"),
    ),
    ("a trace of another version", request({"user_id": "u1"}, f"traceparent: 01-{'a' * 32}-{'b' * 16}-00-x")),
    ("two traces", request({"user_id": "u1"}, *[f"traceparent: 00-{one * 32}-{'b' * 16}-00" for one in "ac"])),
    ("a budget", request({"user_id": "u1"}, "x-request-timeout-ms: 500")),
    ("a budget that is none", request({"user_id": "u1"}, "x-request-timeout-ms: soon")),
    ("an older protocol", request({"user_id": "u1"}, "connection: keep-alive", version="1.0")),
    ("two hosts", request({"user_id": "u1"}, "host: localhost")),
    ("another content type", request({"user_id": "u1"}, "content-type: application/json")),
    ("a query", request({"user_id": "u1"}, path="/api/v1/recommend?count=3")),
    ("an escape", request({"user_id": "u1"}, path="/api/v1/%72ecommend")),
    ("another method", request({"user_id": "u1"}, method="PUT")),
    ("no body", request(b"")),
    ("no JSON", request(b"{")),
    ("an unknown field", request({"user": "u1"})),
    ("nobody", request({"count": 3})),
    ("a filter", request({"user_id": "u1", "filters": {"categories": ["mugs"]}})),
    ("a reason", request({"user_id": "u1", "explain": True})),
]


@pytest.mark.parametrize("wire", [one for _, one in ODD], ids=[name for name, _ in ODD])
def test_what_is_odd_goes_the_ordinary_way_however_often_it_comes(house: House, wire: bytes) -> None:
    async def story() -> None:
        async with house.door() as door, house.door(lane=False) as plain:
            for _ in range(4):
                first, second = await door.enter(), await plain.enter()
                assert (await first.ask(wire)).comparable == (await second.ask(wire)).comparable
            assert not any(door.by_lane)

    house.run(story())


def test_requests_in_parts_and_several_at_once_are_answered_in_their_order(house: House) -> None:
    async def story() -> None:
        async with house.door() as door:
            visitor, wires = await door.enter(), [request({"user_id": "u1", "count": n}) for n in (3, 4)]
            for wire in wires:
                await learnt(visitor, wire)
            seen = len(door.by_lane)

            def count(answer: Answer) -> int:
                return len(json.loads(answer.body)["data"]["items"])

            assert count(await visitor.ask(wires[0][:40], wires[0][40:])) == 3
            assert count(await visitor.ask(wires[1][:-1], wires[1][-1:])) == 4
            assert not any(door.by_lane[seen:])
            visitor.writer.write(wires[0] + wires[1] + wires[0])
            assert [count(await visitor.answer()) for _ in range(3)] == [3, 4, 3]
            assert count(await visitor.ask(b"\r\n" + wires[1])) == 4
            assert count(await visitor.ask(wires[0])) == 3
            assert door.by_lane[-1], "the connection is as it was"
            assert count(await (await door.enter()).ask(b"\r\n", wires[1])) == 4, "an empty line is no request"

    house.run(story())


def test_what_proxies_tell_of_each_request_keeps_nobody_from_the_lane(house: House) -> None:
    """And what they told of the first is not kept."""

    async def story() -> None:
        async with house.door() as door, house.door(lane=False) as plain:
            visitor, ordinary = await door.enter(), await plain.enter()
            for number in range(6):
                lines = (
                    f"X-Request-ID: {number * '7'}{number}",
                    f"x-forwarded-for: 10.0.{number}.1, 10.0.0.{number}",
                    f"Cookie: sid={number}; theme=d",
                    "x-amzn-trace-id:" if number % 2 else "x-amzn-trace-id: Root=1-67891233-abcdef012345678912345678",
                )
                wire = request({"user_id": "u3", "count": 4}, *lines)
                assert (await visitor.ask(wire)).comparable == (await ordinary.ask(wire)).comparable
                assert door.by_lane[-1] == (number >= 2)
            kept = list(door.lane._heads._heads.items())
            assert not any(b"10.0." in head or b"sid" in head or UNREAD & known.headers.keys() for head, known in kept)

    house.run(story())


def test_what_stands_behind_names_that_are_read_is_told_apart() -> None:
    heads = Heads("/api/v1/recommend", lambda _: b"")
    wire = request({"user_id": "u1"}, "x-request-id: 1", "x-api-key: a")
    for _ in range(2):
        _come(heads, wire)
    head = wire[: wire.find(b"\r\n\r\n") + 4]

    def known(old: bytes, new: bytes) -> bool:
        assert head.count(old) == 1
        return heads.get(head.replace(old, new)) is not None

    assert known(b"x-request-id: 1", b"x-request-id: 2 or: more, of; it")
    assert known(b"x-request-id: 1", b"x-request-id:")
    for other in (
        b"x-request-id: 1\x01",
        b"x-request-id: \xe9",
        b"x-request-id: 1\r",
        b"x-request-id : 1",
        b"x-request-idx: 1",
    ):
        assert not known(b"x-request-id: 1", other), other
    for other in (
        b"x-request-id: 1\nexpect: 100-continue",
        b"x-request-id: 1\r\nupgrade: h2c",
        b"x-request-id: " + b"1" * 2048,
    ):
        assert not known(b"x-request-id: 1", other), other
    assert not known(b"x-api-key: a", b"x-api-key: b")
    assert not known(b"x-api-key: a", b"x-api-key: a\r\nx-request-id: 7")


def test_spoilt_requests_are_not_answered_otherwise_than_by_a_door_without_a_lane(house: House) -> None:
    async def is_by_lane(door: Door, visitor: Visitor, wire: bytes) -> bool:
        looks = len(door.by_lane)
        visitor.writer.write(wire)
        while len(door.by_lane) == looks:
            await asyncio.sleep(0)
        return door.by_lane[-1]

    async def story() -> None:
        drawn = random.Random(0)
        whole = request({"user_id": "u5", "count": 3}, "accept: */*", "x-request-id: 5", "host: 127.0.0.1")
        whole = whole.replace(b"host: localhost\r\n", b"")
        answered = 0
        async with house.door() as door, house.door(lane=False) as plain:
            await learnt(await door.enter(), whole)
            for _ in range(400):
                wire = _spoilt(whole, drawn)
                found = [await is_by_lane(door, visitor := await door.enter(), wire) for _ in range(3)]
                if found[-1]:
                    answered += 1
                    assert (await visitor.answer()).comparable == (await (await plain.enter()).ask(wire)).comparable
            assert 5 < answered < 300, "some are harmless, such as another user, and most are not"
            assert await is_by_lane(door, await door.enter(), whole)

    house.run(story())


def _spoilt(wire: bytes, drawn: random.Random) -> bytes:
    """A byte more, less, or another one; or a whole line twice, or away."""
    at = drawn.randrange(len(wire))
    kind = drawn.randrange(5)
    if kind < 3:
        byte = bytes([drawn.choice((drawn.randrange(256), *b"\r\n :,0"))])
        return wire[:at] + (b"" if kind == 1 else byte) + wire[at + (kind != 0) :]
    lines = wire.split(b"\r\n")
    number = drawn.randrange(len(lines) - 2)
    lines[number : number + 1] = [lines[number]] * (2 if kind == 3 else 0)
    return b"\r\n".join(lines)


def test_pages_elsewhere_are_told_what_they_may_by_the_lane_too(house: House) -> None:
    gate = Gate(GuardConfig.model_validate({"instance_per_second": 1e6, "origins": ["https://shop.example"]}))

    async def story() -> None:
        async with house.door(gate) as door:
            visitor = await door.enter()
            for origin, allowed in (("https://shop.example", b"https://shop.example"), ("https://other.example", None)):
                wire = request({"user_id": "u1"}, f"origin: {origin}")
                found = [await visitor.ask(wire) for _ in range(4)]
                assert {dict(one.headers).get(b"access-control-allow-origin") for one in found} == {allowed}
                assert len({str(one.comparable) for one in found}) == 1
                assert door.by_lane[-1]

    house.run(story())


def test_an_upgrade_is_answered_and_nothing_breaks(house: House, caplog: pytest.LogCaptureFixture) -> None:
    lines = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: AAAA")

    async def story() -> None:
        async with house.door() as door:
            for wire in (request({"user_id": "u1"}, *lines), request(b"", *lines, method="GET", path="/healthz")):
                for _ in range(2):
                    assert (await (await door.enter()).ask(wire)).status in (200, 400, 405)

    house.run(story())
    assert "Traceback" not in caplog.text


def test_a_server_that_ends_tells_so_with_the_last_answer(house: House) -> None:
    async def story() -> None:
        async with house.door() as door:
            visitor, wire = await door.enter(), request({"user_id": "u1"})
            await learnt(visitor, wire)
            door.server.server_state.default_headers.append((b"connection", b"close"))
            last = await visitor.ask(wire)
            assert last.header(b"connection") == b"close"
            assert await visitor.is_left()

    house.run(story())


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(house: House) -> None:
    async def story() -> None:
        async with house.door(idle_seconds=50) as door:
            visitor, wire = await door.enter(), request({"user_id": "u1"})
            await learnt(visitor, wire)
            fresh = await door.enter()
            assert (await fresh.ask(wire)).status == 200
            assert door.by_lane[-1]
            assert len(door.server.server_state.connections) == 2
            for one in list(door.server.server_state.connections):
                assert isinstance(one, QuickConnection)
                assert one.timeout_keep_alive_task is not None, "the lane's first answer began to wait too"
                one.timeout_keep_alive_handler()  # as if 50 seconds had gone since the timer was set
                assert not one.transport.is_closing()
                assert 49 < one.timeout_keep_alive_task.when() - one.loop.time() < 50.1
                one._answered_at -= 50
                one.timeout_keep_alive_handler()
            assert await visitor.is_left()
            assert await fresh.is_left()

    house.run(story())


def _come(heads: Heads, wire: bytes) -> None:
    lines = wire.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    scope = {
        "method": "POST",
        "path": "/api/v1/recommend",
        "raw_path": b"/api/v1/recommend",
        "http_version": "1.1",
        "query_string": b"",
        "headers": [(name, value) for name, _, value in (one.partition(b": ") for one in lines)],
    }
    heads.learn(wire, scope, keeps_alive=True)


def test_who_may_not_enter_keeps_nobody_from_being_known() -> None:
    heads = Heads("/api/v1/recommend", lambda _: b"", lambda headers: b"x-key" in headers)
    regular = request({"user_id": "u1"}, "x-key: good")
    _come(heads, regular)
    for number in range(10_000):
        _come(heads, request({"user_id": "u1"}, f"x-number: {number}"))
    _come(heads, regular)
    assert heads.get(regular.partition(b"\r\n\r\n")[0] + b"\r\n\r\n") is not None


def test_who_sends_another_head_each_time_drives_nobody_out() -> None:
    heads = Heads("/api/v1/recommend", lambda _: b"")

    def come(wire: bytes) -> None:
        _come(heads, wire)

    regular = request({"user_id": "u1"})
    for _ in range(2):
        come(regular)
    for number in range(10_000):
        come(request({"user_id": "u1"}, f"x-number: {number}"))
    head = regular.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert heads.get(head) is not None
    assert len(heads._heads) == 1
    for number in range(2_000):  # and twice each
        for _ in range(2):
            come(request({"user_id": "u1"}, f"x-number: again {number}"))
        if number < 1_500:
            assert heads.get(head) is not None, "who comes again stays"
    for number in range(2_000, 4_000):
        for _ in range(2):
            come(request({"user_id": "u1"}, f"x-number: again {number}"))
    assert len(heads._heads) == 1024
    assert heads.get(head) is None, "who came longest ago leaves"


# The last: a change of the catalogue is looked for a while after it, and ends every page once more.


def test_what_the_catalogue_loses_is_not_shown_again(house: House) -> None:
    async def story() -> None:
        async with house.door() as door:
            visitor, wire = await door.enter(), request({"user_id": "u4"})
            await learnt(visitor, wire)
            shown = json.loads((await visitor.ask(wire)).body)["data"]["items"][0]["item_id"]
            assert door.by_lane[-1]
            await asyncio.to_thread(house.service.catalogue.set_hidden, shown, True)
            after = json.loads((await visitor.ask(wire)).body)["data"]
            await asyncio.to_thread(house.service.catalogue.set_hidden, shown, False)
            assert shown not in {one["item_id"] for one in after["items"]}

    house.run(story())
