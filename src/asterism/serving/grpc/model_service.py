"""`ModelService` over the engine pool of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final

from grpc.aio import ServicerContext

from asterism.core.bundle import Bundle
from asterism.core.errors import AsterismError, ModelError, RequestError, StoreUnavailableError
from asterism.serving.engine.pool import EnginePool
from asterism.serving.grpc.answering_stream import AnsweringStream, AskingStream
from asterism.serving.grpc.descriptions import description_of
from asterism.serving.grpc.errors import told
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.grpc.proto.model_pb2_grpc import ModelServiceServicer
from asterism.serving.grpc.queries import failure_of, flatten, request_of, result_of
from asterism.serving.grpc.server import MOST_FORGOTTEN
from asterism.stores.users import digest_of

MOST_QUERIES: Final = 256
WATCH_SECONDS: Final = 0.5
_PAGE_ITEMS: Final = 4096

logger = logging.getLogger(__name__)


class ModelServicer(ModelServiceServicer):
    """Answers with one pool; for one event loop."""

    def __init__(self, pool: EnginePool, on_swap: Callable[[Bundle], None] = lambda bundle: None) -> None:
        """`on_swap` is told, on a thread, what is served from now on, whether or not the caller still waits."""
        self._pool = pool
        self._on_swap = on_swap
        self._is_draining = asyncio.Event()

    def drain(self) -> None:
        """End the streams of those who watch, so that they look for another engine."""
        self._is_draining.set()

    @told
    async def Predict(self, message: model_pb2.PredictRequest, context: ServicerContext) -> model_pb2.PredictResponse:
        """See model.proto."""
        queries = message.queries
        seconds = context.time_remaining()
        if len(queries) == 1:
            return model_pb2.PredictResponse(results=[await self._result(queries[0], seconds)])
        if not 1 <= len(queries) <= MOST_QUERIES:
            raise RequestError(f"{len(queries)} queries came; send 1 to {MOST_QUERIES} in a call")
        results = await asyncio.gather(*(self._result(one, seconds) for one in queries))
        return model_pb2.PredictResponse(results=results)

    async def Converse(self, messages: AsyncIterator[model_pb2.Asked], context: ServicerContext) -> None:
        """See model.proto."""
        await self.converse(context)

    async def converse(self, stream: AskingStream) -> None:
        """Answer what comes over one stream, until its other side ends it, or this process shuts down."""
        await AnsweringStream(stream, lambda query: self._result(query, None)).run(self._is_draining)

    @told
    async def Describe(self, message: model_pb2.DescribeRequest, context: ServicerContext) -> model_pb2.Description:
        """See model.proto."""
        return self._description()

    @told
    async def Forget(self, message: model_pb2.ForgetRequest, context: ServicerContext) -> model_pb2.ForgetResponse:
        """See model.proto."""
        digests = [*message.digests, *map(digest_of, message.user_ids)]
        if len(digests) > MOST_FORGOTTEN:
            raise RequestError(f"{len(digests)} users came; send {MOST_FORGOTTEN} in a call")
        await self._pool.forget(digests)
        return model_pb2.ForgetResponse()

    async def Watch(
        self, message: model_pb2.DescribeRequest, context: ServicerContext
    ) -> AsyncIterator[model_pb2.Description]:
        """See model.proto."""
        while not self._is_draining.is_set():
            yield self._description()
            waiting: list[asyncio.Task[Any]] = [
                asyncio.create_task(self._pool.wait_changed(WATCH_SECONDS)),
                asyncio.create_task(self._is_draining.wait()),
            ]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waiting:
                    one.cancel()

    async def SemanticIds(
        self, message: model_pb2.SemanticIdsRequest, context: ServicerContext
    ) -> AsyncIterator[model_pb2.SemanticIdPage]:
        """See model.proto."""
        version, waiting = self._pool.status.bundle_version, iter(self._pool.semantic_ids.items())
        while some := list(islice(waiting, _PAGE_ITEMS)):
            page = model_pb2.SemanticIdPage(bundle_version=version, item_ids=[item_id for item_id, _ in some])
            page.levels = flatten([path for _, path in some], page.codes)
            yield page

    @told
    async def Swap(self, message: model_pb2.SwapRequest, context: ServicerContext) -> model_pb2.Description:
        """See model.proto."""
        bundle = await asyncio.to_thread(Bundle.open, Path(message.bundle))
        if message.version and message.version != bundle.version:
            raise ModelError(
                f"{message.bundle} holds bundle {bundle.version} here, and {message.version} was asked for"
            )
        await self._swap_unless_draining(bundle)
        return self._description()

    async def _swap_unless_draining(self, bundle: Bundle) -> None:
        swapping = asyncio.ensure_future(self._pool.swap(bundle, self._note))
        draining = asyncio.ensure_future(self._is_draining.wait())
        try:
            await asyncio.wait({swapping, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:  # also where the caller gives up
            draining.cancel()
            swapping.cancel()
            await asyncio.gather(swapping, return_exceptions=True)
        if not swapping.cancelled():
            swapping.result()
        elif not self._pool.serves(bundle):
            raise StoreUnavailableError(f"this engine is shutting down, and goes on with {self._pool.bundle.path}")

    async def _note(self, bundle: Bundle) -> None:
        try:
            await asyncio.to_thread(self._on_swap, bundle)
        except AsterismError as error:  # it is served all the same
            logger.error("a restart of this engine will serve the bundle of before: %s", error)

    async def _result(self, query: model_pb2.Query, call_seconds: float | None) -> model_pb2.Result:
        try:
            answer = await self._pool.recommend(request_of(query, call_seconds))
            return result_of(answer, packed=bool(query.packed))
        except AsterismError as error:
            return failure_of(error)
        except Exception:  # the caller must not wait for what will never come
            logger.exception("a query failed")
            return failure_of(ModelError("something unforeseen went wrong; the engine's log tells what"))

    def _description(self) -> model_pb2.Description:
        pool = self._pool
        return description_of(pool.status, refusal=pool.refusal, items=len(pool.semantic_ids))
