"""States and slates as the nearline loop reaches them: in Redis, or in the gateway that holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

import grpc

from asterism.core.errors import AsterismError
from asterism.serving.grpc.addresses import checked
from asterism.serving.grpc.errors import error_of, error_of_status
from asterism.serving.grpc.message_room import in_messages
from asterism.serving.grpc.proto import visitors_pb2, visitors_pb2_grpc
from asterism.serving.grpc.server import MOST_MESSAGE_BYTES
from asterism.serving.grpc.visitor_messages import (
    MOST_VISITORS,
    PACKED_STATE_FORMAT,
    input_of,
    slate_message,
    wish_message,
)
from asterism.serving.hot_state import recent_event
from asterism.serving.slate_inputs import SlateInput, SlateWish, keep_slates, read_inputs
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.forgotten import ForgottenUsers
from asterism.stores.opening import Hot
from asterism.stores.slates import Slate
from asterism.stores.user_state import Visitor

_CALL_SECONDS: Final = 2.0


class Waiting(NamedTuple):
    """A visitor, by their key, who waits for a slate, and their newest event; None where any state will do."""

    visitor: Visitor
    arrival: Arrival | None


class Visitors(Protocol):
    """For one event loop. Both raise `AsterismError` where who holds the states cannot be reached."""

    async def inputs(self, waiting: Sequence[Waiting]) -> list[SlateInput | AsterismError]:
        """What each visitor's slate is made of, their newest event among it, or `is_late`; or why there is none."""
        ...

    async def keep(self, slates: Sequence[tuple[Visitor, Slate]]) -> list[AsterismError | None]:
        """Keep slates in place of the last ones, but of whom was forgotten; of each, why it was refused, or None."""
        ...

    def forget(self, user_id: str) -> None:
        """Keep nothing of a user that is known here, from any thread; raises `StoreUnavailableError`."""
        ...

    def tell_forgotten(self, tell: Callable[[Sequence[str]], None]) -> None:
        """Tell somebody, from any thread, the digests of those who are forgotten from now on, wherever that is."""
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...


class StoredVisitors:
    """Implements `Visitors` over stores that all processes share."""

    def __init__(self, hot: Hot, forgotten: ForgottenUsers) -> None:
        """`forgotten` holds what states of these stores begin with."""
        self._hot = hot
        self._forgotten = forgotten

    async def inputs(self, waiting: Sequence[Waiting]) -> list[SlateInput | AsterismError]:
        """See `Visitors.inputs`; others bring the event, for here it may be older than that its user was forgotten."""
        wishes = [_wish(one) for one in waiting]
        return await asyncio.to_thread(read_inputs, self._hot.states, self._hot.slates, wishes)

    async def keep(self, slates: Sequence[tuple[Visitor, Slate]]) -> list[AsterismError | None]:
        """See `Visitors.keep`."""
        return await asyncio.to_thread(keep_slates, self._hot.states, self._hot.slates, slates)

    def forget(self, user_id: str) -> None:
        """See `Visitors.forget`; a slate may have been made of the histories a moment ago."""
        self._forgotten.earlier.forget(user_id)
        self._hot.states.let_go([user_id])
        self._hot.slates.forget(Visitor(user_id=user_id))

    def tell_forgotten(self, tell: Callable[[Sequence[str]], None]) -> None:
        """See `Visitors.tell_forgotten`."""
        self._forgotten.tell = tell

    async def close(self) -> None:
        """See `Visitors.close`."""
        await asyncio.to_thread(self._forgotten.close)
        self._hot.close()


class GatewayVisitors:
    """Implements `Visitors` over the gateway that has users' states in its memory."""

    def __init__(self, address: str) -> None:
        """Raises `ConfigError` on an address that is none; nothing is connected yet."""
        self._address = checked(address)
        options = (
            ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self._channel = grpc.aio.insecure_channel(self._address, options=options)
        self._slates = cast(Any, visitors_pb2_grpc.SlateServiceStub)(self._channel)

    async def inputs(self, waiting: Sequence[Waiting]) -> list[SlateInput | AsterismError]:
        """See `Visitors.inputs`; one call, and another for what had no room in the answer."""
        found: dict[int, SlateInput | AsterismError] = {}
        while missing := [place for place in range(len(waiting)) if place not in found][:MOST_VISITORS]:
            wishes = [wish_message(_wish(waiting[place])) for place in missing]
            asked = visitors_pb2.GetSlateInputsRequest(wishes=wishes, packed_format=PACKED_STATE_FORMAT)
            answer = await self._call(self._slates.GetSlateInputs, asked)
            told = zip(missing, answer.inputs, strict=True)
            found |= {place: input_of(one) for place, one in told if not one.is_cut}
        return [found[place] for place in range(len(waiting))]

    async def keep(self, slates: Sequence[tuple[Visitor, Slate]]) -> list[AsterismError | None]:
        """See `Visitors.keep`; one call, where they are not very large."""
        results: list[AsterismError | None] = []
        messages = [slate_message(visitor, slate) for visitor, slate in slates]
        for some in in_messages(messages, visitors_pb2.Slate.ByteSize, MOST_VISITORS):
            asked = visitors_pb2.KeepSlatesRequest(slates=some, packed_format=PACKED_STATE_FORMAT)
            refused = (await self._call(self._slates.KeepSlates, asked)).refused
            results += [error_of(refused[place]) if place in refused else None for place in range(len(some))]
        return results

    def forget(self, user_id: str) -> None:
        """See `Visitors.forget`; the gateway that was told has done so."""

    def tell_forgotten(self, tell: Callable[[Sequence[str]], None]) -> None:
        """See `Visitors.tell_forgotten`; the gateway tells all whom it asks."""

    async def close(self) -> None:
        """See `Visitors.close`."""
        await self._channel.close()

    async def _call(self, method: Any, message: Any) -> Any:
        try:
            return await method(message, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise error_of_status(error, f"the gateway at {self._address}") from error


def _wish(one: Waiting) -> SlateWish:
    return SlateWish(one.visitor, None if one.arrival is None else recent_event(one.arrival.event))
