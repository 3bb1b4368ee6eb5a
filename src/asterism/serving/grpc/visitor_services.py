"""`FeatureService` and `SlateService` over the states and slates that this process can reach."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from grpc.aio import ServicerContext

from asterism.core.errors import RequestError
from asterism.serving.grpc.addresses import FEATURE_SERVICE, SLATE_SERVICE
from asterism.serving.grpc.errors import message_of, told
from asterism.serving.grpc.proto import visitors_pb2, visitors_pb2_grpc
from asterism.serving.grpc.server import GrpcServer, HostedService
from asterism.serving.grpc.visitor_messages import (
    MOST_VISITORS,
    PACKED_STATE_FORMAT,
    feature_message,
    inputs_message,
    slate_of,
    visitor_of,
    wish_of,
)
from asterism.serving.hot_state import HotState
from asterism.serving.slate_inputs import SlateWish, keep_slates, read_inputs

M = TypeVar("M")
T = TypeVar("T")


def visitor_server(address: str, hot: HotState) -> GrpcServer:
    """A server of both services; raises `ConfigError` on an address that is none."""
    features = HostedService(
        FEATURE_SERVICE, visitors_pb2_grpc.add_FeatureServiceServicer_to_server, FeatureServicer(hot)
    )
    slates = HostedService(SLATE_SERVICE, visitors_pb2_grpc.add_SlateServiceServicer_to_server, SlateServicer(hot))
    return GrpcServer(address, [features, slates])


class FeatureServicer(visitors_pb2_grpc.FeatureServiceServicer):
    """For one event loop."""

    def __init__(self, hot: HotState) -> None:
        self._hot = hot

    @told
    async def GetUserFeature(
        self, message: visitors_pb2.GetUserFeatureRequest, context: ServicerContext
    ) -> visitors_pb2.UserFeature:
        """See visitors.proto."""
        visitor = visitor_of(message.visitor)
        state = await _where(self._hot, lambda: self._hot.states.get(visitor))
        return feature_message(state, self._hot.interests(state), self._hot.segment(state))


class SlateServicer(visitors_pb2_grpc.SlateServiceServicer):
    """For one event loop."""

    def __init__(self, hot: HotState) -> None:
        self._hot = hot

    @told
    async def GetSlateInputs(
        self, message: visitors_pb2.GetSlateInputsRequest, context: ServicerContext
    ) -> visitors_pb2.GetSlateInputsResponse:
        """See visitors.proto."""
        _check(message.packed_format, len(message.wishes), "wishes")
        wishes = [_read(wish_of, one) for one in message.wishes]
        good = [one for one in wishes if isinstance(one, SlateWish)]
        found = iter(await _where(self._hot, lambda: read_inputs(self._hot.states, self._hot.slates, good)))
        return inputs_message([next(found) if isinstance(one, SlateWish) else one for one in wishes])

    @told
    async def KeepSlates(
        self, message: visitors_pb2.KeepSlatesRequest, context: ServicerContext
    ) -> visitors_pb2.KeepSlatesResponse:
        """See visitors.proto."""
        _check(message.packed_format, len(message.slates), "slates")
        slates = [_read(slate_of, one) for one in message.slates]
        good = [one for one in slates if not isinstance(one, RequestError)]
        kept = iter(await _where(self._hot, lambda: keep_slates(self._hot.states, self._hot.slates, good)))
        results = [one if isinstance(one, RequestError) else next(kept) for one in slates]
        refused = {place: message_of(error) for place, error in enumerate(results) if error is not None}
        return visitors_pb2.KeepSlatesResponse(refused=refused)


def _check(packed_format: int, count: int, name: str) -> None:
    if packed_format != PACKED_STATE_FORMAT:
        raise RequestError(
            f"this gateway packs states in format {PACKED_STATE_FORMAT}, and format {packed_format} was asked for; "
            "run worker and gateway of one version"
        )
    if not 1 <= count <= MOST_VISITORS:
        raise RequestError(f"{count} {name} came; send 1 to {MOST_VISITORS} in a call")


def _read(reader: Callable[[M], T], message: M) -> T | RequestError:
    """What a part of a message tells, or what is wrong with it, which is no matter of the other parts."""
    try:
        return reader(message)
    except RequestError as error:
        return error


async def _where(hot: HotState, action: Callable[[], T]) -> T:
    """Ask a store: on the loop where it is in this process, else on a thread."""
    return action() if hot.is_local else await asyncio.to_thread(action)
