"""The lane answers what the ordinary way would answer, never what it would refuse, and gives way to everything odd."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import uvicorn
from prometheus_client import generate_latest
from uvicorn.loops.auto import auto_loop_factory

from asterism.config.guard import GuardConfig
from asterism.core.clock import SystemClock
from asterism.serving.http.app import build_gateway
from asterism.serving.http.connections import QuickConnection
from asterism.serving.http.gate import Gate
from asterism.serving.http.hot.heads import Heads
from asterism.serving.http.hot.page_lane import PageLane
from asterism.serving.http.middleware.key_ring import KeyRing
from asterism.serving.service import Service, ServiceSettings, open_service
from asterism.stores.api_keys import LocalApiKeys, new_key
from asterism.stores.user_state import Visitor as Visited
from serving.running import ENGINE, environment
from serving.small_market import DELAY_FILE, write_bundle

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
CHANGING = {b"x-trace-id", b"traceparent", b"date", b"content-length"}
OWN = re.compile(rb'"(attribution_id|trace_id)":"[0-9a-f]+"|"latency_ms":[0-9.]+|"cached":(true|false)')


class Answer(NamedTuple):
    """As it came over the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def comparable(self) -> Any:
        """All that two answers to the same request share."""
        fixed = [one for one in self.headers if one[0] not in CHANGING]
        return self.status, [name for name, _ in self.headers], fixed, OWN.sub(b"", self.body)

    def header(self, name: bytes) -> bytes:
        return dict(self.headers)[name]


class House:
    """One service, and doors into it."""

    def __init__(self, service: Service, runner: asyncio.Runner) -> None:
        self.service = service
        self._runner = runner

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(asyncio.wait_for(story, PATIENCE_SECONDS))

    @contextlib.asynccontextmanager
    async def door(self, gate: Gate | None = None, *, lane: bool = True, idle_seconds: int = 75) -> AsyncIterator[Door]:
        """A port of its own; `lane` says whether there is one."""
        gate = gate or Gate(GuardConfig.model_validate({"instance_per_second": 1e6}))
        gateway = build_gateway(self.service, gate)
        assert gateway.lane is not None
        by_lane = _counted(gateway.lane)
        kind: Any = functools.partial(QuickConnection, lane=gateway.lane if lane else None)
        config = uvicorn.Config(
            gateway.app, http=kind, ws="none", port=0, lifespan="off", log_config=None, timeout_keep_alive=idle_seconds
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        found = Door(server, by_lane, gateway.lane)
        try:
            yield found
        finally:
            await found.close()
            await serving


def _counted(lane: PageLane) -> list[bool]:
    """What becomes of each look at a lane: whether it had an answer."""
    found: list[bool] = []
    answer = lane.answer

    def counted(*arguments: Any) -> bytes | None:
        given = answer(*arguments)
        found.append(bool(given))
        return given

    lane.answer = counted  # type: ignore[method-assign]
    return found


class Door:
    """A port, and who came in by it."""

    def __init__(self, server: uvicorn.Server, by_lane: list[bool], lane: PageLane) -> None:
        self.server = server
        self.lane = lane
        self.by_lane = by_lane
        self.port: int = server.servers[0].sockets[0].getsockname()[1]
        self._visitors: list[Visitor] = []

    async def enter(self) -> Visitor:
        self._visitors.append(Visitor(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self._visitors[-1]

    async def close(self) -> None:
        for one in self._visitors:
            one.writer.close()
            with contextlib.suppress(ConnectionError):
                await one.writer.wait_closed()
        self.server.should_exit = True


class Visitor:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, *parts: bytes) -> Answer:
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(0.05)  # so that they are not one when they arrive
            self.writer.write(part)
        return await self.answer()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in head[1:])]
        length = int(dict(headers)[b"content-length"])
        return Answer(int(head[0].split()[1]), headers, await self.reader.readexactly(length))

    async def is_left(self) -> bool:
        return await self.reader.read(1) == b""


def request(
    body: Any, *lines: str, method: str = "POST", path: str = "/api/v1/recommend", version: str = "1.1"
) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = [f"{method} {path} HTTP/{version}", "host: localhost", "content-type: application/json", *lines]
    return "\r\n".join([*own, f"content-length: {len(content)}", "", ""]).encode() + content


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("lane")
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        yield from _open(folder, runner)


def _open(folder: Path, runner: asyncio.Runner) -> Iterator[House]:
    write_bundle(folder / "bundle")
    service = open_service(
        ServiceSettings(folder / "bundle", folder / "state", ENGINE, deadline_seconds=30.0, slate_seconds=1e6)
    )

    async def start() -> House:
        service.start()
        await service.engine.wait_ready()
        return House(service, runner)

    yield runner.run(start())
    runner.run(service.stop())


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


async def _learnt(visitor: Visitor, wire: bytes) -> None:
    for _ in range(3):
        assert (await visitor.ask(wire)).status == 200


def test_feedback_is_heard_by_the_next_request(house: House) -> None:
    async def story() -> None:
        async with house.door() as door:
            visitor, wire = await door.enter(), request({"user_id": "u3"})
            await _learnt(visitor, wire)
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
                await _learnt(visitor, wire)
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


def test_spoilt_requests_are_not_answered_otherwise_than_by_a_door_without_a_lane(house: House) -> None:
    async def is_by_lane(door: Door, visitor: Visitor, wire: bytes) -> bool:
        looks = len(door.by_lane)
        visitor.writer.write(wire)
        while len(door.by_lane) == looks:
            await asyncio.sleep(0)
        return door.by_lane[-1]

    async def story() -> None:
        drawn = random.Random(0)
        whole = request({"user_id": "u5", "count": 3}, "accept: */*", "host: 127.0.0.1")
        whole = whole.replace(b"host: localhost\r\n", b"")
        answered = 0
        async with house.door() as door, house.door(lane=False) as plain:
            await _learnt(await door.enter(), whole)
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


def test_a_known_head_lets_nobody_in_whose_key_was_revoked(house: House) -> None:
    keys = LocalApiKeys()
    made, token = new_key("shop", frozenset({"recommend"}), 1.0)
    keys.add(made)
    gate = Gate(GuardConfig(), KeyRing(keys, SystemClock(), refresh_seconds=0.02))

    async def story() -> None:
        async with house.door(gate) as door:
            visitor, wire = await door.enter(), request({"user_id": "u1"}, f"authorization: Bearer {token}")
            await _learnt(visitor, wire)
            assert door.by_lane[-1]
            keys.revoke(made.key_id, 2)
            while (await visitor.ask(wire)).status == 200:
                await asyncio.sleep(0.02)
            assert [(await visitor.ask(wire)).status for _ in range(3)] == [401] * 3
            assert door.by_lane[-3:] == [False] * 3
            other = request({"user_id": "u1"}, f"authorization: Bearer {token[:-1]}x")
            assert [(await visitor.ask(other)).status for _ in range(3)] == [401] * 3

    house.run(story())
    gate.close()


def test_the_limit_of_an_instance_holds_over_both_ways(house: House) -> None:
    gate = Gate(GuardConfig.model_validate({"instance_per_second": 0.001}))  # a hundred, then nothing for long

    async def story() -> None:
        async with house.door(gate) as door:
            visitor, wire = await door.enter(), request({"user_id": "u1"})
            found = [await visitor.ask(wire) for _ in range(105)]
            assert [one.status for one in found] == [200] * 100 + [429] * 5
            assert door.by_lane.count(True) == 98
            assert int(found[-1].header(b"retry-after")) > 1

    house.run(story())


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


def _counted_by(house: House) -> dict[str, float]:
    """Every counter of the service, histograms' counts among them."""
    text = generate_latest(house.service.telemetry.registry).decode()
    lines = [one.rpartition(" ") for one in text.splitlines() if not one.startswith("#")]
    return {name: float(value) for name, _, value in lines if re.search(r"_(total|count)(\{|$)", name)}


def test_both_ways_count_the_same(house: House) -> None:
    async def story(lane: bool) -> dict[str, float]:
        async with house.door(lane=lane) as door:
            visitor, wire = await door.enter(), request({"user_id": "u6"})
            await _learnt(visitor, wire)
            before = _counted_by(house)
            for _ in range(5):
                await visitor.ask(wire)
            after = _counted_by(house)
            assert any(door.by_lane[-5:]) is lane
            return {name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name)}

    ordinary, laned = house.run(story(False)), house.run(story(True))
    ignored = re.compile("process_|python_|exposures_total")  # exposures are counted where they are queued: below
    assert {k: v for k, v in laned.items() if not ignored.match(k)} == {
        k: v for k, v in ordinary.items() if not ignored.match(k)
    }
    assert laned['asterism_exposures_total{outcome="queued"}'] == 5


def test_each_answer_of_the_lane_is_in_the_exposure_log(house: House) -> None:
    async def story() -> list[str]:
        async with house.door() as door:
            visitor, wire = await door.enter(), request({"user_id": "u7"})
            return [json.loads((await visitor.ask(wire)).body)["data"]["attribution_id"] for _ in range(6)]

    given = house.run(story())

    async def logged() -> dict[str, Any]:
        while True:
            found = {one.attribution_id: one for one in house.service.exposures.replay()}
            if set(given) <= set(found):
                return found
            await asyncio.sleep(0.05)

    found = house.run(logged())
    assert {found[one].user_id for one in given} == {"u7"}
    assert len({found[one].item_ids for one in given}) == 1
    assert len({found[one].used for one in given}) == 1


def test_a_trace_is_continued_by_the_lane_too(house: House) -> None:
    def traced(trace: str, flags: str = "00", name: str = "traceparent") -> bytes:
        return request({"user_id": "u1"}, f"{name}: 00-{trace}-{'b' * 16}-{flags}", "accept: */*")

    async def story() -> None:
        async with house.door() as door, house.door(lane=False) as plain:
            visitor, other = await door.enter(), await plain.enter()
            for number, flags in enumerate(("00", "01", "00", "01", "00", "01")):
                trace = f"{number + 1:032x}"
                ours, theirs = await visitor.ask(traced(trace, flags)), await other.ask(traced(trace, flags))
                assert ours.comparable == theirs.comparable
                assert ours.header(b"x-trace-id") == theirs.header(b"x-trace-id") == trace.encode()
                for one in (ours, theirs):
                    assert re.fullmatch(f"00-{trace}-[0-9a-f]{{16}}-{flags}", one.header(b"traceparent").decode())
                    assert json.loads(one.body)["trace_id"] == trace
            assert door.by_lane[:2] == [False, False]
            assert door.by_lane[2:].count(True) >= 3
            nobodys = await visitor.ask(traced("0" * 32))
            assert nobodys.header(b"x-trace-id") != b"0" * 32
            assert door.by_lane[-1]
            for wire in (
                traced("a" * 31),
                traced("A" * 32),
                traced("a" * 32, name="Traceparent"),
                traced("a" * 32, "02"),
            ):
                assert (await visitor.ask(wire)).status == 200
                assert door.by_lane[-1] is False

    house.run(story())


def test_sessions_of_a_user_are_told_apart_in_the_exposure_log(house: House) -> None:
    async def story() -> dict[str, str]:
        async with house.door() as door:
            visitor, given = await door.enter(), {}
            for _ in range(4):
                for session in ("tab-1", "tab-2"):
                    answer = await visitor.ask(request({"user_id": "u9", "session_id": session}))
                    given[json.loads(answer.body)["data"]["attribution_id"]] = session
            assert door.by_lane[-4:] == [True] * 4
            return given

    given = house.run(story())
    house.service.exposures.forget({}).result()  # comes behind what waits
    found = {one.attribution_id: one.session_id for one in house.service.exposures.replay()}
    assert {one: found[one] for one in given} == given


def test_a_look_that_finds_no_page_counts_nothing(house: House) -> None:
    async def story(lane: bool, user: str) -> float:
        async with house.door(lane=lane) as door:
            visitor, wire = await door.enter(), request({"user_id": user})
            await _learnt(visitor, wire)
            click = request({"user_id": user, "item_id": "mugs-01"}, path="/api/v1/feedback")
            name = 'asterism_stage_seconds_count{stage="state"}'
            before = _counted_by(house)[name]
            for _ in range(3):
                assert (await visitor.ask(click)).status == 200
                assert (await visitor.ask(wire)).status == 200
            return _counted_by(house)[name] - before

    assert house.run(story(True, "u10")) == house.run(story(False, "u11"))


def test_an_upgrade_is_answered_and_nothing_breaks(house: House, caplog: pytest.LogCaptureFixture) -> None:
    lines = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: AAAA")

    async def story() -> None:
        async with house.door() as door:
            for wire in (request({"user_id": "u1"}, *lines), request(b"", *lines, method="GET", path="/healthz")):
                for _ in range(2):
                    assert (await (await door.enter()).ask(wire)).status in (200, 400, 405)

    house.run(story())
    assert "Traceback" not in caplog.text


def test_of_whoever_may_not_come_in_no_head_is_learnt(house: House) -> None:
    keys = LocalApiKeys()
    made, _ = new_key("shop", frozenset({"recommend"}), 1.0)
    keys.add(made)
    gate = Gate(GuardConfig(), KeyRing(keys, SystemClock(), refresh_seconds=0.02))

    async def story() -> None:
        async with house.door(gate) as door:
            visitor = await door.enter()
            for _ in range(3):
                assert (await visitor.ask(request({"user_id": "u1"}, "authorization: Bearer ast_x"))).status == 401
            assert not door.lane._heads._heads

    house.run(story())
    gate.close()


def test_nothing_is_kept_of_a_user_who_was_forgotten_while_the_model_was_asked(house: House) -> None:
    service, delay = house.service, house.service.bundle.path.parent / DELAY_FILE

    async def story() -> str:
        async with house.door() as door:
            asking, forgetting = await door.enter(), await door.enter()
            wire = request({"user_id": "u12"})
            delay.write_text("60")
            asked = asyncio.create_task(asking.ask(wire))
            while not service.engine.status.figures.under_way:
                await asyncio.sleep(0.005)
            gone = asyncio.create_task(forgetting.ask(request(b"", method="DELETE", path="/api/v1/user/u12")))
            while service.hot.states.get(Visited("u12")).recent:
                await asyncio.sleep(0.005)
            delay.unlink()
            answer = await asked
            assert answer.status == 200
            assert (await gone).status == 200
            return str(json.loads(answer.body)["data"]["attribution_id"])

    given = house.run(story())
    service.exposures.forget({}).result()  # comes behind what waits
    assert given not in {one.attribution_id for one in service.exposures.replay()}
    assert not [key for key in service.recommender._pages._kept if key.visitor == Visited("u12")]


class Drawing:
    """A tracer of which only the draws matter: every third request is chosen."""

    def __init__(self) -> None:
        self.draws = 0
        self.spans: list[str] = []

    def chooses(self) -> bool:
        self.draws += 1
        return self.draws % 3 == 0

    @contextlib.contextmanager
    def span(self, name: str, *_: Any, **__: Any) -> Iterator[Any]:
        self.spans.append(name)
        trace = type("Span", (), {"traceparent": f"00-{'c' * 32}-{'d' * 16}-01", "note": lambda *_: None})
        yield trace()

    def close(self) -> None: ...


def test_the_share_of_traced_requests_is_drawn_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Drawing()
    monkeypatch.setattr(house, "service", _with_tracer(house.service, tracer))

    async def story() -> None:
        async with house.door() as door:
            visitor, wire = await door.enter(), request({"user_id": "u8"})
            answers = [await visitor.ask(wire) for _ in range(30)]
            assert tracer.draws == 30
            assert tracer.spans == ["POST /api/v1/recommend"] * 10
            traced = [one.header(b"x-trace-id") == b"c" * 32 for one in answers]
            assert traced == [(number + 1) % 3 == 0 for number in range(30)]
            assert [not one for one in traced[2:]] == door.by_lane[2:]
            for number in range(4):  # whose caller has decided is not drawn for
                for flags in ("00", "01"):
                    parent = f"traceparent: 00-{number + 1:032x}-{'b' * 16}-{flags}"
                    assert (await visitor.ask(request({"user_id": "u8"}, parent))).status == 200
            assert tracer.draws == 30
            assert len(tracer.spans) == 14
            assert door.by_lane[-6:] == [True, False] * 3

    house.run(story())


def _with_tracer(service: Service, tracer: Any) -> Any:
    from dataclasses import replace

    class Traced:
        telemetry = replace(service.telemetry, tracer=tracer)

        def __getattr__(self, name: str) -> Any:
            return getattr(service, name)

    return Traced()


def test_a_server_that_ends_tells_so_with_the_last_answer(house: House) -> None:
    async def story() -> None:
        async with house.door() as door:
            visitor, wire = await door.enter(), request({"user_id": "u1"})
            await _learnt(visitor, wire)
            door.server.server_state.default_headers.append((b"connection", b"close"))
            last = await visitor.ask(wire)
            assert last.header(b"connection") == b"close"
            assert await visitor.is_left()

    house.run(story())


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(house: House) -> None:
    async def story() -> None:
        async with house.door(idle_seconds=50) as door:
            visitor, wire = await door.enter(), request({"user_id": "u1"})
            await _learnt(visitor, wire)
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


def test_who_sends_another_head_each_time_drives_nobody_out() -> None:
    heads = Heads("/api/v1/recommend", lambda _: b"")

    def come(wire: bytes) -> None:
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

    regular = request({"user_id": "u1"})
    for _ in range(2):
        come(regular)
    for number in range(10_000):
        come(request({"user_id": "u1"}, f"x-request-id: {number}"))
    head = regular.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert heads.get(head) is not None
    assert len(heads._heads) == 1
    for number in range(2_000):  # and twice each
        for _ in range(2):
            come(request({"user_id": "u1"}, f"x-request-id: again {number}"))
        if number < 1_500:
            assert heads.get(head) is not None, "who comes again stays"
    for number in range(2_000, 4_000):
        for _ in range(2):
            come(request({"user_id": "u1"}, f"x-request-id: again {number}"))
    assert len(heads._heads) == 1024
    assert heads.get(head) is None, "who came longest ago leaves"


# The last: a change of the catalogue is looked for a while after it, and ends every page once more.
def test_what_the_catalogue_loses_is_not_shown_again(house: House) -> None:
    async def story() -> None:
        async with house.door() as door:
            visitor, wire = await door.enter(), request({"user_id": "u4"})
            await _learnt(visitor, wire)
            shown = json.loads((await visitor.ask(wire)).body)["data"]["items"][0]["item_id"]
            assert door.by_lane[-1]
            await asyncio.to_thread(house.service.catalogue.set_hidden, shown, True)
            after = json.loads((await visitor.ask(wire)).body)["data"]
            await asyncio.to_thread(house.service.catalogue.set_hidden, shown, False)
            assert shown not in {one["item_id"] for one in after["items"]}

    house.run(story())
