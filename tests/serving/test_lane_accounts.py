"""Whatever the lane answers is let in, limited, counted, traced and logged as on the ordinary way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from asterism.config.guard import GuardConfig
from asterism.core.clock import SystemClock
from asterism.serving.http.gate import Gate
from asterism.serving.http.middleware.key_ring import KeyRing
from asterism.serving.service import Service
from asterism.stores.api_keys import LocalApiKeys, new_key
from asterism.stores.user_state import Visitor as Visited
from serving.lane_house import (
    House,
    counted_by,
    learnt,
    opened,
    request,
)
from serving.small_market import DELAY_FILE


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("lane")) as found:
        yield found


def test_a_known_head_lets_nobody_in_whose_key_was_revoked(house: House) -> None:
    keys = LocalApiKeys()
    made, token = new_key("shop", frozenset({"recommend"}), 1.0)
    keys.add(made)
    gate = Gate(GuardConfig(), KeyRing(keys, SystemClock(), refresh_seconds=0.02))

    async def story() -> None:
        async with house.door(gate) as door:
            visitor, wire = await door.enter(), request({"user_id": "u1"}, f"authorization: Bearer {token}")
            await learnt(visitor, wire)
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


def test_both_ways_count_the_same(house: House) -> None:
    async def story(lane: bool) -> dict[str, float]:
        async with house.door(lane=lane) as door:
            visitor, wire = await door.enter(), request({"user_id": "u6"})
            await learnt(visitor, wire)
            before = counted_by(house)
            for _ in range(5):
                await visitor.ask(wire)
            after = counted_by(house)
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
            await learnt(visitor, wire)
            click = request({"user_id": user, "item_id": "mugs-01"}, path="/api/v1/feedback")
            name = 'asterism_stage_seconds_count{stage="state"}'
            before = counted_by(house)[name]
            for _ in range(3):
                assert (await visitor.ask(click)).status == 200
                assert (await visitor.ask(wire)).status == 200
            return counted_by(house)[name] - before

    assert house.run(story(True, "u10")) == house.run(story(False, "u11"))


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
