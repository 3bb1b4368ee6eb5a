"""The engine of other processes, as the service sees it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from asterism.core.bundle import Bundle
from asterism.core.errors import AsterismError, ConfigError, ModelError
from asterism.core.semantic_id import SemanticId
from asterism.serving.engine.status import EngineStatus
from asterism.serving.grpc.descriptions import merged
from asterism.serving.grpc.engine_link import EngineLink, EngineLostError
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.queries import answer_of
from asterism.serving.ports import EngineAnswer, EngineRequest


class RemoteEngine:
    """Implements `EngineHandle` over engine processes at addresses; for one event loop.

    A request goes to the process with the fewest calls under way; where that is lost, once more to another one.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        """Raises `ConfigError` on an address that is none."""
        if not addresses:
            raise ConfigError("no engine is named; give its address, like unix:/folder/engine.sock")
        self._changed = asyncio.Event()
        self._links = [EngineLink(one, self._on_change) for one in addresses]

    def start(self) -> None:
        """See `EngineHandle.start`."""
        for one in self._links:
            one.start()

    async def stop(self) -> None:
        """See `EngineHandle.stop`; the processes go on."""
        await asyncio.gather(*(one.stop() for one in self._links))

    @property
    def status(self) -> EngineStatus:
        """See `EngineHandle.status`."""
        return merged([one.status for one in self._links])

    async def wait_ready(self) -> None:
        """See `EngineHandle.wait_ready`."""
        while not any(one.status.ready for one in self._links):
            refusals = [one.refusal for one in self._links if one.refusal is not None]
            if len(refusals) == len(self._links):
                raise ModelError(refusals[0])
            self._changed.clear()
            await self._changed.wait()

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        """See `EngineClient.recommend`."""
        (result,) = await self._predict([request])
        return answer_of(result)

    async def recommend_many(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer | AsterismError]:
        """Answers, or the errors in their place, by one call; at most 256 at once. Raises `ModelError`."""
        return [_answer_or_error(one) for one in await self._predict(requests)]

    def semantic_id(self, item_id: str) -> SemanticId | None:
        """See `EngineClient.semantic_id`; what a lost process told still holds."""
        for one in self._links:
            if item_id in one.semantic_ids:
                return one.semantic_ids[item_id]
        return None

    async def swap(self, bundle: Bundle) -> None:
        """See `EngineHandle.swap`; one process after the other, each of which must see the bundle's folder."""
        for one in self._links:
            await one.swap(str(bundle.path.resolve()), bundle.version)

    async def _predict(self, requests: Sequence[EngineRequest]) -> Sequence[model_pb2.Result]:
        first = self._idlest()
        try:
            return await first.predict(requests)
        except EngineLostError:
            now = time.monotonic()
            if any(one.deadline is not None and one.deadline <= now for one in requests):
                raise
            other = self._idlest(but=first)
            return await other.predict(requests)

    def _idlest(self, but: EngineLink | None = None) -> EngineLink:
        ready = [one for one in self._links if one.status.ready and one is not but]
        if not ready:
            raise ModelError(f"the engine is not ready: {self.status.error or 'it is loading'}")
        least = min(one.in_flight for one in ready)
        return random.choice([one for one in ready if one.in_flight == least])

    def _on_change(self) -> None:
        self._changed.set()


def _answer_or_error(result: model_pb2.Result) -> EngineAnswer | AsterismError:
    try:
        return answer_of(result)
    except AsterismError as error:
        return error
