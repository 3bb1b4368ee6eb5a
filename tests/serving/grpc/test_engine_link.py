"""When an engine counts as silent: not for a moment in which the one who listens stood still."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from asterism.serving.grpc import engine_link


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_link, "_LOOK_SECONDS", 0.1)


class Stream:
    """Tells one thing, once it is there."""

    def __init__(self) -> None:
        self.told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read(self) -> Any:
        return await self.told


def test_a_stream_without_a_word_is_silent() -> None:
    async def main() -> None:
        stream = Stream()
        with pytest.raises(TimeoutError):
            await engine_link._next_of(stream)
        assert stream.told.cancelled(), "nobody reads on"

    asyncio.run(main())


def test_who_stood_still_hears_what_was_said_meanwhile() -> None:
    async def main() -> None:
        stream, loop = Stream(), asyncio.get_running_loop()

        def stand_still() -> None:
            time.sleep(0.7)  # longer than all looks together
            loop.call_soon(loop.call_soon, loop.call_soon, stream.told.set_result, "alive")  # as a socket tells it

        loop.call_later(0.02, stand_still)
        assert await engine_link._next_of(stream) == "alive"

    asyncio.run(main())
