"""A stream takes messages apart however their bytes come, and holds the other side where nobody reads."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.serving.grpc.message_stream import MessageStream
from asterism.serving.grpc.proto import model_pb2


class Wire:
    """What a stream does to its transport."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.said.append("close")

    def is_closing(self) -> bool:
        return "close" in self.said

    def pause_reading(self) -> None:
        self.said.append("pause")

    def resume_reading(self) -> None:
        self.said.append("resume")


def connected() -> tuple[MessageStream, Wire]:
    stream, wire = MessageStream(model_pb2.Asked), Wire()
    stream.connection_made(cast(asyncio.Transport, wire))
    return stream, wire


def sent(messages: list[model_pb2.Asked]) -> bytes:
    stream, wire = connected()
    for one in messages:
        stream.put(one)
    return wire.written


async def read_all(stream: MessageStream) -> list[Any]:
    found = []
    while (message := await stream.read()) is not grpc.aio.EOF:
        found.append(message)
    return found


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 2**63), max_size=30), max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_messages_come_whole_however_their_bytes_are_cut(numbers: list[list[int]], cuts: list[int]) -> None:
    messages = [model_pb2.Asked(withdrawn=one) for one in numbers]

    async def story() -> list[Any]:
        stream, _ = connected()
        data, turn = sent(messages), 0
        while data:
            size = cuts[turn % len(cuts)]
            stream.data_received(data[:size])
            data, turn = data[size:], turn + 1
        stream.connection_lost(None)
        return await read_all(stream)

    assert asyncio.run(story()) == messages


@pytest.mark.parametrize("bad", [(1 << 30).to_bytes(4), (2).to_bytes(4) + b"\xff\xff"], ids=["too long", "no message"])
def test_what_cannot_be_read_ends_the_stream_after_what_could(bad: bytes) -> None:
    async def story() -> tuple[list[Any], list[str]]:
        stream, wire = connected()
        stream.data_received(sent([model_pb2.Asked(withdrawn=[1])]) + bad)
        return await asyncio.wait_for(read_all(stream), 30), wire.said

    found, said = asyncio.run(story())
    assert found == [model_pb2.Asked(withdrawn=[1])]
    assert "close" in said


def test_a_reader_who_waits_is_woken_and_one_who_does_not_read_holds_the_other_side() -> None:
    async def story() -> list[str]:
        stream, wire = connected()
        waiting = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        data = sent([model_pb2.Asked(withdrawn=[1])])
        stream.data_received(data)
        assert await asyncio.wait_for(waiting, 30) == model_pb2.Asked(withdrawn=[1])
        assert wire.said == []
        stream.data_received(data * 64)
        assert wire.said == ["pause"]
        for _ in range(64):
            assert wire.said == ["pause"]
            await stream.read()
        return wire.said

    assert asyncio.run(story()) == ["pause", "resume"]


def test_a_writer_waits_while_the_socket_takes_no_more() -> None:
    async def story() -> None:
        stream, wire = connected()
        assert stream.has_room
        stream.pause_writing()
        assert not stream.has_room
        writing = asyncio.ensure_future(stream.write(model_pb2.Asked(withdrawn=[7])))
        await asyncio.sleep(0.01)
        assert wire.written
        assert not writing.done()
        stream.resume_writing()
        await asyncio.wait_for(writing, 30)
        stream.pause_writing()
        lost = asyncio.ensure_future(stream.write(model_pb2.Asked()))
        await asyncio.sleep(0)
        stream.connection_lost(None)
        await asyncio.wait_for(lost, 30)
        before = wire.written
        await stream.write(model_pb2.Asked(withdrawn=[8]))
        assert wire.written == before, "nothing is written to who has gone"

    asyncio.run(story())
