"""`FeatureService` and `SlateService` over the states and slates that this process can reach."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from grpc.aio import ServicerContext

from asterism.core.errors import RequestError
from asterism.serving.grpc.addresses import FEATURE_SERVICE, SLATE_SERVICE
from asterism.serving.grpc.errors import told
from asterism.serving.grpc.proto import model_pb2, visitors_pb2, visitors_pb2_grpc
from asterism.serving.grpc.queries import flatten, unflattened
from asterism.serving.grpc.server import GrpcServer, HostedService
from asterism.serving.hot_state import HotState
from asterism.stores.slates import ScoredItem, Slate
from asterism.stores.user_state import UserState, Visitor

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
        return feature_message(state, self._hot)


class SlateServicer(visitors_pb2_grpc.SlateServiceServicer):
    """For one event loop."""

    def __init__(self, hot: HotState) -> None:
        self._hot = hot

    @told
    async def KeepSlate(
        self, message: visitors_pb2.KeepSlateRequest, context: ServicerContext
    ) -> visitors_pb2.KeepSlateResponse:
        """See visitors.proto."""
        visitor, slate = visitor_of(message.visitor), slate_of(message.slate)
        await _where(self._hot, lambda: self._hot.slates.keep(visitor, slate))
        return visitors_pb2.KeepSlateResponse()

    @told
    async def LastSlate(
        self, message: visitors_pb2.LastSlateRequest, context: ServicerContext
    ) -> visitors_pb2.LastSlateResponse:
        """See visitors.proto."""
        visitor = visitor_of(message.visitor)
        slate = await _where(self._hot, lambda: self._hot.slates.get(visitor))
        return visitors_pb2.LastSlateResponse(slate=None if slate is None else slate_message(slate))


def visitor_of(message: visitors_pb2.Visitor) -> Visitor:
    """What states and slates are kept under; raises `RequestError` for nobody in particular."""
    visitor = Visitor(
        message.user_id if message.HasField("user_id") else None,
        message.session_id if message.HasField("session_id") else None,
    )
    if visitor.key is None:
        raise RequestError("the visitor has neither a `user_id` nor a `session_id`")
    return visitor.key


def visitor_message(visitor: Visitor) -> visitors_pb2.Visitor:
    """A visitor as it is sent."""
    return visitors_pb2.Visitor(user_id=visitor.user_id, session_id=visitor.session_id)


def feature_message(state: UserState, hot: HotState) -> visitors_pb2.UserFeature:
    """A state, and what follows from it, as they are sent."""
    return visitors_pb2.UserFeature(
        recent=[model_pb2.Event(**{**one._asdict(), "action": one.action.value}) for one in state.recent],
        seen=state.seen,
        negative=state.negative,
        interests=hot.interests(state),
        segment=hot.segment(state),
        revision=state.revision,
    )


def slate_message(slate: Slate) -> visitors_pb2.Slate:
    """A slate as it is sent."""
    message = visitors_pb2.Slate(
        item_ids=[one.item_id for one in slate.items],
        scores=[one.score for one in slate.items],
        revision=slate.revision,
        bundle_version=slate.bundle_version,
        at_seconds=slate.at_seconds,
        scene=slate.scene,
        device=slate.device,
        asked=slate.asked,
        degraded=slate.degraded,
    )
    message.levels = flatten([one.semantic_id for one in slate.items], message.codes)
    return message


def slate_of(message: visitors_pb2.Slate) -> Slate:
    """The slate that a message tells; raises `RequestError` where its parts do not fit together."""
    if len(message.scores) != len(message.item_ids):
        raise RequestError(f"a slate of {len(message.item_ids)} items came with {len(message.scores)} scores")
    paths = unflattened(message.codes, message.levels, len(message.item_ids))
    return Slate(
        items=tuple(map(ScoredItem, message.item_ids, message.scores, paths)),
        revision=message.revision,
        bundle_version=message.bundle_version,
        at_seconds=message.at_seconds,
        scene=message.scene if message.HasField("scene") else None,
        device=message.device if message.HasField("device") else None,
        asked=message.asked,
        degraded=message.degraded,
    )


async def _where(hot: HotState, action: Callable[[], T]) -> T:
    """Ask a store: on the loop where it is in this process, else on a thread."""
    return action() if hot.is_local else await asyncio.to_thread(action)
