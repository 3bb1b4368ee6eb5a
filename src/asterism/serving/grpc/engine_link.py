"""One engine process as another process sees it: its state is watched, and a call to a dead one fails at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import grpc

from asterism.core.errors import RequestError
from asterism.core.semantic_id import SemanticId
from asterism.serving.engine.status import EngineStatus
from asterism.serving.grpc.addresses import checked
from asterism.serving.grpc.conversation import Conversation, EngineLostError
from asterism.serving.grpc.descriptions import NO_FIGURES, status_of
from asterism.serving.grpc.errors import error_of_status
from asterism.serving.grpc.message_stream import opened
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.proto.model_pb2_grpc import ModelServiceStub
from asterism.serving.grpc.queries import unflattened
from asterism.serving.grpc.server import MOST_FORGOTTEN, MOST_MESSAGE_BYTES
from asterism.serving.ports import EngineAnswer, EngineRequest

_LOOKS: Final = 5  # in vain, and the engine counts as dead; several, as this process may have stood still in one
_LOOK_SECONDS: Final = 1.0  # twice as long as a living engine is ever silent
_PAUSE_SECONDS: Final = 0.1
_SWAP_SECONDS: Final = 300.0
_FORGET_SECONDS: Final = 10.0

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),  # a link's pauses are its own
)

logger = logging.getLogger(__name__)


class EngineLink:
    """Watches one address; for one event loop."""

    def __init__(self, address: str, on_change: Callable[[], None]) -> None:
        """Raises `ConfigError` on an address that is none."""
        self.address = checked(address)
        self.semantic_ids: dict[str, SemanticId] = {}
        self.status = EngineStatus(False, None, 0, f"{address} was not reached yet", "", (), (), NO_FIGURES)
        self.told_version = ""  # of the bundle that it said it serves, which `status` tells once its ids are here
        self._on_change = on_change
        self._ids_version: str | None = None
        self._conversation: Conversation | None = None
        self._leaving: Conversation | None = None  # with a process that shuts down
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self._is_stopping = False

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answer."""
        return self._conversation.under_way if self._conversation is not None else 0

    def start(self) -> None:
        """Connect, and from now on stay connected."""
        self._channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        self._stub = cast(Any, ModelServiceStub)(self._channel)
        self._watcher = asyncio.create_task(self._keep_watching(), name=f"watch {self.address}")

    async def stop(self) -> None:
        """Let go of the connection; calls under way fail."""
        self._is_stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        self._lose("the engine was let go of")
        if self._leaving is not None:
            self._leaving.end("the engine was let go of")
        if self._channel is not None:
            await self._channel.close()

    async def ask(self, request: EngineRequest) -> EngineAnswer:
        """One answer; raises `EngineLostError`, and what the engine says."""
        if self._conversation is None:
            raise EngineLostError(self.status.error or f"{self.address} was lost")
        return await self._conversation.ask(request)

    async def forget(self, digests: Sequence[str]) -> None:
        """Let the process drop what it keeps of users; raises what it says, and `StoreUnavailableError`."""
        try:
            for start in range(0, len(digests), MOST_FORGOTTEN):
                asked = model_pb2.ForgetRequest(digests=digests[start : start + MOST_FORGOTTEN])
                await self._stub.Forget(asked, timeout=_FORGET_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise error_of_status(error, self.address) from None

    async def swap(self, bundle: str, version: str) -> None:
        """Let the process serve another bundle; raises `ModelError`, `BundleError`."""
        message = model_pb2.SwapRequest(bundle=bundle, version=version)
        try:
            await self._take(await self._stub.Swap(message, timeout=_SWAP_SECONDS))
        except grpc.aio.AioRpcError as error:
            raise error_of_status(error, self.address) from None

    async def _keep_watching(self) -> None:
        while True:
            try:
                await self._watch()
                self._retire(f"the engine at {self.address} is shutting down")
            except grpc.aio.AioRpcError as error:
                self._lose(f"the engine at {self.address} cannot be reached ({error.details()})")
            except TimeoutError:
                self._lose(f"the engine at {self.address} was silent for {_LOOKS * _LOOK_SECONDS:g} s")
            except Exception:  # whatever it was, the engine must be found again
                logger.exception("the engine at %s is watched anew", self.address)
                self._lose(f"the engine at {self.address} told what cannot be read")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _watch(self) -> None:
        stream = self._stub.Watch(model_pb2.DescribeRequest())
        try:
            while True:
                description = await _next_of(stream)
                if description is grpc.aio.EOF:
                    return
                await self._take(description)
        finally:
            stream.cancel()

    async def _take(self, description: model_pb2.Description) -> None:
        status = status_of(description)
        self.told_version = status.bundle_version
        if status.ready and self._ids_version != status.bundle_version:
            await self._fetch_semantic_ids()
        if not self._can_ask():  # before it is called ready: whoever hears of that asks at once
            stream = await opened(self.address, model_pb2.Answered) or self._stub.Converse()
            if self._can_ask() or self._is_stopping:  # `swap` took a description, or `stop` was called, meanwhile
                stream.cancel()
            else:
                self._conversation = Conversation(stream, description.packed_format)
        was_ready, self.status = self.status.ready, status
        if status.ready != was_ready:
            self._on_change()

    def _can_ask(self) -> bool:
        return self._conversation is not None and not self._conversation.is_over

    async def _fetch_semantic_ids(self) -> None:
        found: dict[str, SemanticId] = {}
        version = None
        async for page in self._stub.SemanticIds(model_pb2.SemanticIdsRequest(), timeout=_SWAP_SECONDS):
            version = page.bundle_version
            try:
                paths = unflattened(page.codes, page.levels, len(page.item_ids))
            except RequestError as error:
                logger.error("%s sent semantic ids that cannot be read: %s", self.address, error)
                return
            found.update(zip(page.item_ids, paths, strict=True))
        self.semantic_ids, self._ids_version = found, version

    def _retire(self, reason: str) -> None:
        """Ask nothing more of the process, which still answers what it was asked."""
        was_ready = self.status.ready
        engines = tuple(one._replace(ready=False) for one in self.status.engines)
        self.status = self.status._replace(ready=False, error=reason, engines=engines)
        if self._conversation is not None:
            self._leaving, self._conversation = self._conversation, None
        if was_ready and not self._is_stopping:
            logger.warning("%s", reason)
        self._on_change()

    def _lose(self, reason: str) -> None:
        """Nothing more is expected of the process: whoever waits for it hears so now."""
        if self._conversation is not None:
            self._conversation.end(reason)
        self._retire(reason)


async def _next_of(stream: Any) -> Any:
    """What a stream tells next; raises `TimeoutError` after `_LOOKS` looks without a word."""
    reading = asyncio.ensure_future(stream.read())
    try:
        for _ in range(_LOOKS):
            done, _ = await asyncio.wait({reading}, timeout=_LOOK_SECONDS)
            if done:
                return reading.result()
        raise TimeoutError
    finally:
        reading.cancel()
