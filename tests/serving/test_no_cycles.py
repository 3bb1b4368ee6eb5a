"""What ends leaves no cycle: a connection, a refused request and a write that failed are freed at once.

A collection would find them, but one that lived for long is found late, and each is one more to be walked.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, cast

import grpc
import pytest

from asterism.core.clock import SystemClock
from asterism.core.errors import AsterismError, OverloadedError, StorageError
from asterism.core.records import Action
from asterism.serving.feedback import FeedbackIntake
from asterism.serving.grpc import conversation
from asterism.serving.grpc.conversation import Conversation, EngineLostError
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.queries import PACKED_FORMAT, failure_of
from asterism.serving.hot_state import HotState
from asterism.serving.ports import EngineAnswer, EngineRequest, ScoredItem
from asterism.serving.recommendation import Recommended, Source
from asterism.stores.event_bus import EventBus, Receipt
from asterism.stores.event_log import Event
from asterism.stores.remembered_catalogue import RememberedCatalogue
from serving.lane_house import Door, House, opened, request


@contextmanager
def no_collections() -> Iterator[None]:
    """Nothing is freed but by its last reference."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("cycles")) as found:
        yield found


ASKED = request({"user_id": "u1"})


def reset(one: socket.socket) -> None:
    """Close it in a way that the other side takes for an error."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def entered(door: Door, data: bytes, answers: int) -> asyncio.StreamWriter:
    """A connection that sent something, and read so many answers."""
    visitor = await door.enter()
    visitor.writer.write(data)
    for _ in range(answers):
        assert (await visitor.answer()).status in {200, 400}
    return visitor.writer


async def gone(refs: Iterable[weakref.ref[Any]]) -> None:
    """Return once all are freed; who waits is given up on by `House.run`."""
    while any(one() is not None for one in refs):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("data", "answers"),
    [
        (b"", 0),
        (ASKED[:40], 0),
        (ASKED[:-5], 0),
        (ASKED, 1),
        (ASKED, 0),
        (ASKED + ASKED, 2),
        (request({"user_id": "u1", "exclude": ["lamps-01"]}), 0),
        (request(b"{"), 1),
    ],
    ids=["silent", "half a head", "half a body", "asked", "unheard", "pipelined", "unheard model", "malformed"],
)
def test_a_connection_that_ends_is_freed(house: House, data: bytes, answers: int, *, is_reset: bool) -> None:
    async def story() -> None:
        async with house.door() as door:
            state = door.server.server_state
            with no_collections():
                writer = await entered(door, data, answers)
                while not state.connections:
                    await asyncio.sleep(0.01)
                refs = [weakref.ref(one) for one in state.connections]
                assert len(refs) == 1
                if is_reset:
                    reset(writer.get_extra_info("socket"))
                writer.close()
                await gone(refs)

    house.run(story())


def test_a_connection_that_the_lane_answered_is_freed(house: House) -> None:
    async def story() -> None:
        async with house.door() as door:
            with no_collections():
                writer = await entered(door, ASKED, 1)
                visitor = door._visitors[-1]
                for _ in range(4):
                    assert (await visitor.ask(ASKED)).status == 200
                assert True in door.by_lane
                refs = [weakref.ref(one) for one in door.server.server_state.connections]
                reset(writer.get_extra_info("socket"))
                writer.close()
                await gone(refs)

    house.run(story())


class Stream:
    """A conversation's stream, whose other side says what the test says."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Any] = asyncio.Queue()

    async def read(self) -> Any:
        return await self.told.get()

    async def write(self, message: model_pb2.Asked) -> None:
        pass

    def cancel(self) -> None:
        pass


REFUSED = failure_of(OverloadedError("busy"))
UNREADABLE = model_pb2.Result(packed=b"\xc1")


@pytest.mark.parametrize(
    ("result", "kind"),
    [(REFUSED, OverloadedError), (UNREADABLE, Exception), (grpc.aio.EOF, EngineLostError), (None, OverloadedError)],
    ids=["refused", "unreadable", "lost", "late"],
)
def test_a_request_that_the_engine_does_not_answer_is_freed(
    monkeypatch: pytest.MonkeyPatch, result: Any, kind: type[Exception]
) -> None:
    monkeypatch.setattr(conversation, "_LATE_SECONDS", 0.0)

    async def failed(talk: Conversation, stream: Stream) -> weakref.ref[Exception]:
        if result is not None:
            said = model_pb2.Answered(numbers=[1], results=[result]) if result is not grpc.aio.EOF else result
            stream.told.put_nowait(said)
        try:
            await talk.ask(EngineRequest((), 1, deadline=0.0 if result is None else None))
        except kind as error:
            return weakref.ref(error)
        raise AssertionError("it was answered")

    async def story() -> None:
        stream = Stream()
        talk = Conversation(stream, PACKED_FORMAT)
        with no_collections():
            found = await asyncio.ensure_future(failed(talk, stream))
            await asyncio.sleep(0)  # the task that ended lets go of it
            assert found() is None
        talk.end("the test is over")

    asyncio.run(asyncio.wait_for(story(), 60))


class FailingBus:
    """Cannot write."""

    knows_ids = True

    def publish(self, events: Any) -> Future[list[Receipt]]:
        written: Future[list[Receipt]] = Future()
        written.set_exception(StorageError("the disk is full"))
        return written


class KnownItems:
    def has_met(self, item_id: str) -> bool:
        return True


def test_feedback_that_cannot_be_written_is_freed() -> None:
    async def failed(intake: FeedbackIntake) -> weakref.ref[AsterismError]:
        try:
            await intake.accept([Event("e1", "a", Action.CLICK, 1, "ada")])
        except StorageError as error:
            return weakref.ref(error)
        raise AssertionError("it was accepted")

    async def story() -> None:
        catalogue, bus = cast(RememberedCatalogue, KnownItems()), cast(EventBus, FailingBus())
        intake = FeedbackIntake(bus=bus, hot=HotState({"a": ()}), catalogue=catalogue, clock=SystemClock())
        with no_collections():
            found = await asyncio.ensure_future(failed(intake))
            await asyncio.sleep(0)
            assert found() is None

    asyncio.run(story())


def test_what_slates_and_pages_keep_by_the_thousand_is_not_walked() -> None:
    scored = tuple(ScoredItem(f"i{one}", 0.5, (1, 2, one)) for one in range(3))
    recommended = tuple(Recommended(one.item_id, Source.MODEL, one.score, one.semantic_id) for one in scored)
    answer = EngineAnswer(scored)
    gc.collect()  # which finds the tuples to hold nothing that it would have to walk
    assert not any(map(gc.is_tracked, (*scored, *recommended, scored, recommended)))
    assert gc.is_tracked(answer)
