"""States and slates as the nearline loop reaches them: in Redis, or in the gateway that holds them."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

import grpc

from asterism.core.records import POSITIVE_ACTIONS, Action
from asterism.serving.grpc.addresses import checked
from asterism.serving.grpc.errors import error_of_status
from asterism.serving.grpc.proto import model_pb2, visitors_pb2, visitors_pb2_grpc
from asterism.serving.grpc.server import MOST_MESSAGE_BYTES
from asterism.serving.grpc.visitor_services import slate_message, slate_of, visitor_message
from asterism.serving.hot_state import recent_event
from asterism.serving.worker.batches import Arrival
from asterism.stores.opening import Hot
from asterism.stores.slates import Slate
from asterism.stores.user_state import RecentEvent, UserState, Visitor

_CALL_SECONDS: Final = 2.0
_LOOKS: Final = 20  # for an event that is on the bus, and in the gateway's state within the same millisecond
_LOOK_SECONDS: Final = 0.003


class Visitors(Protocol):
    """For one event loop; raises `AsterismError` where who holds the states cannot be reached."""

    async def state_after(self, visitor: Visitor, arrival: Arrival) -> UserState:
        """The visitor's state, this event among what it is made of."""
        ...

    async def last_slate(self, visitor: Visitor) -> Slate | None:
        """The visitor's last slate, or None."""
        ...

    async def keep(self, visitor: Visitor, slate: Slate) -> None:
        """Keep a slate in place of the last one."""
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...


class StoredVisitors:
    """Implements `Visitors` over stores that all processes share."""

    def __init__(self, hot: Hot) -> None:
        self._hot = hot

    async def state_after(self, visitor: Visitor, arrival: Arrival) -> UserState:
        """See `Visitors.state_after`; whoever comes first, gateway, this or the state group, brings the event."""
        return await asyncio.to_thread(self._state_after, visitor, arrival)

    async def last_slate(self, visitor: Visitor) -> Slate | None:
        """See `Visitors.last_slate`."""
        return await asyncio.to_thread(self._hot.slates.get, visitor)

    async def keep(self, visitor: Visitor, slate: Slate) -> None:
        """See `Visitors.keep`."""
        await asyncio.to_thread(self._hot.slates.keep, visitor, slate)

    async def close(self) -> None:
        """See `Visitors.close`."""
        self._hot.close()

    def _state_after(self, visitor: Visitor, arrival: Arrival) -> UserState:
        event, offset = arrival
        if self._hot.states.apply(visitor, recent_event(event), offset, ahead=True):
            self._hot.counts.add([event.item_id] if event.action in POSITIVE_ACTIONS else [])
        return self._hot.states.get(visitor)


class GatewayVisitors:
    """Implements `Visitors` over the gateway that has users' states in its memory."""

    def __init__(self, address: str) -> None:
        """Raises `ConfigError` on an address that is none; nothing is connected yet."""
        self._address = checked(address)
        options = (
            ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self._channel = grpc.aio.insecure_channel(self._address, options=options)
        self._features = cast(Any, visitors_pb2_grpc.FeatureServiceStub)(self._channel)
        self._slates = cast(Any, visitors_pb2_grpc.SlateServiceStub)(self._channel)

    async def state_after(self, visitor: Visitor, arrival: Arrival) -> UserState:
        """See `Visitors.state_after`; looks again for a moment where the gateway has not taken the event in yet."""
        asked = visitors_pb2.GetUserFeatureRequest(visitor=visitor_message(visitor))
        for _ in range(_LOOKS):
            state = _state_of(await self._call(self._features.GetUserFeature, asked))
            if arrival.event.item_id in state.left_out:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return state

    async def last_slate(self, visitor: Visitor) -> Slate | None:
        """See `Visitors.last_slate`."""
        asked = visitors_pb2.LastSlateRequest(visitor=visitor_message(visitor))
        found = await self._call(self._slates.LastSlate, asked)
        return slate_of(found.slate) if found.HasField("slate") else None

    async def keep(self, visitor: Visitor, slate: Slate) -> None:
        """See `Visitors.keep`."""
        message = visitors_pb2.KeepSlateRequest(visitor=visitor_message(visitor), slate=slate_message(slate))
        await self._call(self._slates.KeepSlate, message)

    async def close(self) -> None:
        """See `Visitors.close`."""
        await self._channel.close()

    async def _call(self, method: Any, message: Any) -> Any:
        try:
            return await method(message, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise error_of_status(error, f"the gateway at {self._address}") from error


def _state_of(message: visitors_pb2.UserFeature) -> UserState:
    return UserState(
        recent=tuple(map(_recent_event, message.recent)),
        seen=frozenset(message.seen),
        negative=tuple(message.negative),
        revision=message.revision,
    )


def _recent_event(message: model_pb2.Event) -> RecentEvent:
    return RecentEvent(
        message.timestamp,
        message.item_id,
        Action(message.action),
        message.value if message.HasField("value") else None,
        message.scene if message.HasField("scene") else None,
        message.device if message.HasField("device") else None,
    )
