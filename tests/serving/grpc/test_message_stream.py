"""Messages over a socket: each arrives as it was sent, and whatever is none is the end."""

from __future__ import annotations

import asyncio
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import uvloop

from asterism.core.errors import ConfigError
from asterism.serving.grpc.message_stream import MessageStream, opened, talk_path
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.talking import TalkServer

Converse = Callable[[MessageStream], Awaitable[None]]


async def echo(stream: MessageStream) -> None:
    """Give the numbers of what comes back."""
    while (message := await stream.read()) is not grpc.aio.EOF:
        await stream.write(model_pb2.Answered(numbers=message.numbers))


@asynccontextmanager
async def talking(converse: Converse = echo) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/engine.sock"
        server = TalkServer(address, converse)
        await server.start()
        try:
            yield address
        finally:
            await server.stop(1.0)
            await asyncio.sleep(0.01)  # closed transports let go of their sockets
            assert not list(Path(folder).iterdir()), "the socket is taken away"


def test_messages_of_any_size_arrive_in_their_order() -> None:
    async def main() -> None:
        async with talking() as address:
            stream = await opened(address, model_pb2.Answered)
            assert stream is not None
            sent = [model_pb2.Asked(numbers=range(size)) for size in (0, 1, 3, 200_000, 2)]
            writing = asyncio.gather(*map(stream.write, sent))
            assert [len((await stream.read()).numbers) for _ in sent] == [0, 1, 3, 200_000, 2]
            await writing
            stream.cancel()
            assert await stream.read() is grpc.aio.EOF

    asyncio.run(asyncio.wait_for(main(), 120))


@pytest.mark.parametrize(
    ("raw", "is_torn"),
    [
        (b"\x00\x00", True),
        (b"\x00\x00\x00\x09\x0a", True),
        (b"\xff\xff\xff\xff" + b"x" * 64, False),
        (b"\x00\x00\x00\x02\xff\xff", False),
    ],
    ids=["a torn length", "a torn message", "a length of four GiB", "no message"],
)
def test_what_is_no_message_ends_this_stream_and_no_other(raw: bytes, is_torn: bool) -> None:
    async def main() -> None:
        async with talking() as address:
            other = await opened(address, model_pb2.Answered)
            assert other is not None
            reader, writer = await asyncio.open_unix_connection(talk_path(address))
            writer.write(raw)
            if is_torn:
                writer.write_eof()
            assert await reader.read() == b"", "the other side hangs up"
            writer.close()
            await other.write(model_pb2.Asked(numbers=[7]))
            assert list((await other.read()).numbers) == [7]
            other.cancel()

    asyncio.run(asyncio.wait_for(main(), 120))


def test_the_socket_is_its_users_alone_and_one_process_has_it() -> None:
    async def main() -> None:
        async with talking() as address:
            path = talk_path(address)
            assert path is not None
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with pytest.raises(ConfigError, match="in use by another process"):
                await TalkServer(address, echo).start()
            await asyncio.sleep(0.05)  # that it asked whether somebody listens is over

    asyncio.run(asyncio.wait_for(main(), 120))


def test_where_nobody_talks_there_is_no_stream(tmp_path: Path) -> None:
    async def main() -> None:
        assert await opened(f"unix:{tmp_path}/engine.sock", model_pb2.Answered) is None
        assert await opened("127.0.0.1:9000", model_pb2.Answered) is None
        left = TalkServer(f"unix:{tmp_path}/engine.sock", echo)
        await left.start()
        await left.stop()
        (tmp_path / "engine.sock.talk").touch()  # a file that somebody left
        assert await opened(f"unix:{tmp_path}/engine.sock", model_pb2.Answered) is None

    asyncio.run(asyncio.wait_for(main(), 120))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_is_written_to_a_side_that_has_gone_is_lost_quietly(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        async def leaving(stream: MessageStream) -> None:
            stream.cancel()

        async with talking(leaving) as address:
            stream = await opened(address, model_pb2.Answered)
            assert stream is not None
            assert await stream.read() is grpc.aio.EOF
            for _ in range(20):
                await stream.write(model_pb2.Asked())
                await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 120))


def test_a_stop_waits_for_a_conversation_and_no_longer_than_it_is_given() -> None:
    ended = []

    async def main() -> None:
        async def slow(stream: MessageStream) -> None:
            await stream.read()
            await asyncio.sleep(0.2)
            await stream.write(model_pb2.Answered(numbers=[1]))
            ended.append("in time")

        async def endless(stream: MessageStream) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("cut off")

        for converse in (slow, endless):
            async with talking(converse) as address:
                stream = await opened(address, model_pb2.Answered)
                assert stream is not None
                await stream.write(model_pb2.Asked())
                await asyncio.sleep(0.05)
            if converse is slow:
                assert list((await stream.read()).numbers) == [1]
            stream.cancel()
        await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 120))
    assert ended == ["in time", "cut off"]
