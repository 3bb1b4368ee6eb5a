"""States and slates of many visitors in one call: as each alone, and what is wrong with one is told of it alone."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import RequestError, StorageError, StoreUnavailableError
from asterism.core.records import Action
from asterism.serving.features.earlier import EarlierEvents
from asterism.serving.grpc.addresses import FEATURE_SERVICE, SLATE_SERVICE
from asterism.serving.grpc.message_room import LARGEST_PART_BYTES, ROOM_BYTES, in_messages
from asterism.serving.grpc.proto import model_pb2, visitors_pb2
from asterism.serving.grpc.server import GrpcServer
from asterism.serving.grpc.visitor_messages import (
    PACKED_STATE_FORMAT,
    packed_state,
    slate_message,
    slate_of,
    state_of,
    visitor_message,
    wish_message,
    wish_of,
)
from asterism.serving.grpc.visitor_services import visitor_server
from asterism.serving.hot_state import HotState, PastEvent, recent_event
from asterism.serving.slate_inputs import LastSlate, SlateInput, SlateWish, keep_slates
from asterism.serving.worker import visitors as worker_visitors
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.forgotten import ForgottenUsers
from asterism.serving.worker.visitors import GatewayVisitors, StoredVisitors, Visitors, Waiting
from asterism.stores.event_log import Event
from asterism.stores.opening import Hot, open_hot, open_users
from asterism.stores.slates import ScoredItem, Slate
from asterism.stores.user_state import Offset, RecentEvent, UserState, Visitor
from asterism.stores.users import Users
from serving.grpc.visitor_gateway import Gateway, run

ITEMS = (ScoredItem("é⭐", -0.5, (1, 2, 300)), ScoredItem("b", float("-inf"), (0, 255, 4)))
NAMES = ("ada", "bob", "eve")


def arrival(number: int, user_id: str, action: Action = Action.CLICK) -> Arrival:
    return Arrival(Event(f"e{number}", f"i{number}", action, number, user_id), Offset("p", number))


def click(stores: Hot, number: int, user_id: str) -> UserState:
    stores.states.apply(Visitor(user_id), RecentEvent(number, f"i{number}", Action.CLICK))
    return stores.states.get(Visitor(user_id))


def slate(revision: int, scene: str | None = "home") -> Slate:
    return Slate(ITEMS, revision, "v1", time.time(), scene, None, 30, degraded=True)


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    found = open_users(f"sqlite:///{tmp_path / 'users.db'}")
    yield found
    found.close()


def over(stores: Hot, users: Users, past: Iterable[PastEvent] = ()) -> StoredVisitors:
    return StoredVisitors(stores, ForgottenUsers(users, {}, EarlierEvents(past), stores.states))


def test_a_round_of_all_kinds_is_read_as_each_alone_in_one_call(users: Users) -> None:
    async def work(one: Gateway) -> None:
        for number, name in enumerate(("made", "fresh", "first", "late", "disliking")):
            click(one.stores, number, name)
        fresh = one.stores.states.get(Visitor("fresh"))
        now = Slate(ITEMS, fresh.revision, "v1", time.time(), None, "phone", 12)
        one.stores.slates.keep(Visitor("fresh"), now)
        one.stores.slates.keep(Visitor("made"), Slate(ITEMS, 3, "v1", time.time(), "home", None, 30))
        asked = [
            Waiting(Visitor("made"), arrival(0, "made")),
            Waiting(Visitor("a stranger"), None),
            Waiting(Visitor("fresh"), arrival(1, "fresh")),
            Waiting(Visitor(session_id="first"), None),
            Waiting(Visitor("first"), None),
            Waiting(Visitor("late"), arrival(9, "late")),
            Waiting(Visitor("disliking"), arrival(8, "disliking", Action.DISLIKE)),
        ]
        found = await one.visitors.inputs(asked)
        assert one.calls == ["GetSlateInputs"]
        assert found == [
            SlateInput(one.stores.states.get(Visitor("made")), LastSlate(3, "home", None, 30)),
            SlateInput(None),
            SlateInput(None, LastSlate(fresh.revision, None, "phone", 12)),
            SlateInput(None),
            SlateInput(one.stores.states.get(Visitor("first"))),
            SlateInput(None, is_late=True),
            SlateInput(None, is_late=True),
        ]
        assert isinstance(found[0], SlateInput)
        assert found[0].state is not None
        assert found[0].state.revision == one.stores.states.get(Visitor("made")).revision
        assert [(await one.visitors.inputs([each]))[0] for each in asked] == found
        shared = over(one.stores, users)
        assert await shared.inputs(asked) == found, "as over stores that are shared"
        click(one.stores, 9, "late")
        assert (await one.visitors.inputs(asked[5:6]))[0] == SlateInput(one.stores.states.get(Visitor("late")))

    run(work)


def test_an_event_older_than_that_its_user_was_forgotten_begins_nothing_anew(users: Users) -> None:
    async def work(one: Gateway) -> None:
        gone = Visitor("gone")
        visitors = over(one.stores, users, [PastEvent("gone", recent_event(arrival(0, "gone").event))])
        assert await visitors.inputs([Waiting(gone, arrival(1, "gone"))]) == [SlateInput(None, is_late=True)]
        assert one.stores.states.get(gone).recent == ()
        one.stores.slates.keep(gone, slate(1))  # as made of the histories, before this group hears of it
        visitors.forget("gone")
        assert (visitors._forgotten.earlier(gone), one.stores.slates.get(gone)) == ((), None)

    run(work)


@pytest.mark.parametrize("way", ["gateway", "stores"])
def test_slates_are_kept_together_but_of_whom_was_forgotten_since(way: str, users: Users) -> None:
    async def work(one: Gateway) -> None:
        visitors: Visitors = one.visitors if way == "gateway" else over(one.stores, users)
        states = {name: click(one.stores, 1, name) for name in (*NAMES, "gone", "back")}
        made = [(Visitor(name), slate(state.revision)) for name, state in states.items()]
        click(one.stores, 2, "bob")  # a slate that is stale already is still something to fall back on
        for name in ("gone", "back"):
            one.stores.forget(Visitor(name))
        click(one.stores, 3, "back")
        assert await visitors.keep(made) == [None] * 5
        kept = {name: one.stores.slates.get(Visitor(name)) is not None for name in states}
        assert kept == {**dict.fromkeys(NAMES, True), "gone": False, "back": False}
        assert one.calls == (["KeepSlates"] if way == "gateway" else [])

    run(work)


def test_who_is_forgotten_while_slates_are_written_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(one: Gateway) -> None:
        states, slates = one.stores.states, one.stores.slates
        made = [(Visitor(name), slate(click(one.stores, 1, name).revision)) for name in ("ada", "gone")]
        keep_many = slates.keep_many

        def forgotten_meanwhile(kept: Sequence[tuple[Visitor, Slate]]) -> list[StorageError | None]:
            states.forget(Visitor("gone"))  # as another process does, whose word on the slate came before
            return keep_many(kept)

        monkeypatch.setattr(slates, "keep_many", forgotten_meanwhile)
        assert keep_slates(states, slates, made) == [None, None]
        assert [slates.get(visitor) is not None for visitor, _ in made] == [True, False]

    run(work)


def test_what_is_wrong_with_one_is_told_of_it_alone() -> None:
    async def work(one: Gateway) -> None:
        state = click(one.stores, 1, "ada")
        wishes = [visitors_pb2.SlateWish() for _ in range(4)]
        wishes[0].visitor.CopyFrom(visitor_message(Visitor("ada")))
        wishes[2].CopyFrom(
            visitors_pb2.SlateWish(visitor=visitor_message(Visitor("ada")), event=model_pb2.Event(action="x"))
        )
        wishes[3].visitor.CopyFrom(visitor_message(Visitor("nobody")))
        asked = visitors_pb2.GetSlateInputsRequest(wishes=wishes, packed_format=PACKED_STATE_FORMAT)
        found = (await one.stub.GetSlateInputs(asked)).inputs
        assert state_of(found[0].state) == state
        assert [each.error.code for each in found] == [0, 20001, 20001, 0]
        assert "neither a `user_id` nor" in found[1].error.message
        assert "'x' is unknown" in found[2].error.message
        good = slate_message(Visitor("ada"), slate(state.revision))
        junk = visitors_pb2.Slate(visitor=visitor_message(Visitor("ada")), items=b"junk")
        nobody = visitors_pb2.Slate(items=good.items)
        told = visitors_pb2.KeepSlatesRequest(slates=[junk, good, nobody], packed_format=PACKED_STATE_FORMAT)
        refused = (await one.stub.KeepSlates(told)).refused
        assert {place: error.code for place, error in refused.items()} == {0: 20001, 2: 20001}
        assert one.stores.slates.get(Visitor("ada")) is not None

    run(work)


def test_a_call_of_nobody_of_too_many_or_in_another_format_is_refused() -> None:
    async def work(one: Gateway) -> None:
        wish = visitors_pb2.SlateWish(visitor=visitor_message(Visitor("ada")))
        for count, packed_format, sentence in (
            (0, PACKED_STATE_FORMAT, "0 wishes came; send 1 to 256"),
            (257, PACKED_STATE_FORMAT, "257 wishes came"),
            (1, PACKED_STATE_FORMAT + 1, "run worker and gateway of one version"),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=sentence) as refused:
                await one.stub.GetSlateInputs(
                    visitors_pb2.GetSlateInputsRequest(wishes=[wish] * count, packed_format=packed_format)
                )
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError, match="0 slates came"):
            await one.stub.KeepSlates(visitors_pb2.KeepSlatesRequest(packed_format=PACKED_STATE_FORMAT))
        many = [Waiting(Visitor(f"u{number}"), None) for number in range(300)]
        assert await one.visitors.inputs(many) == [SlateInput(None)] * 300, "in two calls"
        assert one.calls[-2:] == ["GetSlateInputs"] * 2

    run(work)


def test_states_that_have_no_room_in_a_message_come_in_the_next_and_one_too_large_fails_alone() -> None:
    async def work(one: Gateway) -> None:
        sizes = {"a": 0.3, "b": 0.3, "giant": 1.1, "c": 0.3, "d": 0.3}  # of what a part may be at most
        for name, share in sizes.items():
            long = "x" * int(share * LARGEST_PART_BYTES / 10)
            for number in range(10):
                one.stores.states.apply(Visitor(name), RecentEvent(number, f"{number}{long}", Action.DISLIKE))
            click(one.stores, 99, name)
        found = await one.visitors.inputs([Waiting(Visitor(name), None) for name in sizes])
        assert one.calls == ["GetSlateInputs"] * 2, "two of them have room in one message"
        for name, each in zip(sizes, found, strict=True):
            if name == "giant":
                assert isinstance(each, RequestError)
                assert "too large to be sent" in str(each)
            else:
                assert each == SlateInput(one.stores.states.get(Visitor(name)))

    run(work)


def test_a_gateway_that_is_not_there_is_a_sentence(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_visitors, "_CALL_SECONDS", 60.0)

    async def main() -> None:
        visitors = GatewayVisitors(f"unix:{tmp_path}/nobody.sock")
        with pytest.raises(StoreUnavailableError, match=r"the gateway at unix:.*cannot be reached"):
            await visitors.inputs([Waiting(Visitor("ada"), None)])
        with pytest.raises(StoreUnavailableError, match=r"the gateway at unix:.*cannot be reached"):
            await visitors.keep([(Visitor("ada"), slate(1))])
        await visitors.close()

    asyncio.run(main())


def test_a_gateway_of_another_version_is_not_said_to_be_gone(tmp_path: Any) -> None:
    async def main() -> None:
        server = GrpcServer(f"unix:{tmp_path}/old.sock", [])
        await server.start()
        visitors = GatewayVisitors(f"unix:{tmp_path}/old.sock")
        with pytest.raises(RequestError, match=r"old\.sock does not know the call .*run processes of one version"):
            await visitors.inputs([Waiting(Visitor("ada"), None)])
        await visitors.close()
        await server.stop()

    asyncio.run(main())


def test_a_state_that_cannot_be_read_is_told() -> None:
    with pytest.raises(RequestError, match=r"cannot be read .*run worker and gateway of one version"):
        state_of(b"\x93\x01")


TEXT = st.text(max_size=6)
MAYBE = st.none() | TEXT


def test_both_services_are_healthy(tmp_path: Path) -> None:
    async def main() -> None:
        server = visitor_server(f"unix:{tmp_path}/gateway.sock", HotState({}, stores=open_hot("memory")))
        await server.start()
        async with grpc.aio.insecure_channel(server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", FEATURE_SERVICE, SLATE_SERVICE):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await server.stop(0)

    asyncio.run(main())


EVENTS = st.builds(
    RecentEvent,
    st.integers(0, 2**40),
    TEXT,
    st.sampled_from(Action),
    st.none() | st.floats(allow_nan=False),
    MAYBE,
    MAYBE,
)
STATES = st.builds(
    UserState,
    st.lists(EVENTS, max_size=4).map(tuple),
    st.frozensets(TEXT, max_size=4),
    st.lists(TEXT, max_size=3).map(tuple),
    st.integers(0, 2**53),
)


@settings(max_examples=100)
@given(STATES, EVENTS)
def test_what_is_sent_is_what_comes(state: UserState, event: RecentEvent) -> None:
    read = state_of(packed_state(state))
    assert (read, read.revision) == (state, state.revision)
    sent = SlateWish(Visitor(session_id="s"), event)
    read_wish = wish_of(visitors_pb2.SlateWish.FromString(wish_message(sent).SerializeToString()))
    assert read_wish == SlateWish(sent.visitor, event._replace(value=None, scene=None, device=None))
    kept = Slate(ITEMS, state.revision, event.item_id, 1.5, event.scene, event.device, 30, degraded=True)
    message = slate_message(Visitor("ada"), kept).SerializeToString()
    assert slate_of(visitors_pb2.Slate.FromString(message)) == (Visitor("ada"), kept)


@given(st.lists(st.integers(0, ROOM_BYTES * 5 // 4), max_size=12), st.integers(1, 5))
def test_messages_hold_all_parts_in_order_and_none_too_much(sizes: list[int], most: int) -> None:
    messages = list(in_messages(sizes, lambda size: size, most))
    assert [size for message in messages for size in message] == sizes
    for message in messages:
        assert 1 <= len(message) <= most
        assert len(message) == 1 or sum(message) <= ROOM_BYTES
    for message, following in itertools.pairwise(messages):
        assert len(message) == most or sum(message) + following[0] > ROOM_BYTES, "no message more than is needed"
