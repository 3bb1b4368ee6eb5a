"""Visitors, their states and their slates as messages, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from asterism.core.errors import AsterismError, RequestError
from asterism.core.records import Action
from asterism.serving.grpc.errors import error_of, message_of
from asterism.serving.grpc.message_room import LARGEST_PART_BYTES, ROOM_BYTES
from asterism.serving.grpc.proto import model_pb2, visitors_pb2
from asterism.serving.slate_inputs import LastSlate, SlateInput, SlateWish
from asterism.stores.slates import ScoredItem, Slate
from asterism.stores.user_state import RecentEvent, UserState, Visitor

#: Raised whenever `PackedState` or `ScoredItem` changes in a way that the other side could not read.
PACKED_STATE_FORMAT: Final = 1
#: In one call.
MOST_VISITORS: Final = 256


class PackedState(msgspec.Struct, array_like=True):
    """A state as it is sent."""

    recent: tuple[RecentEvent, ...]
    seen: frozenset[str]
    negative: tuple[str, ...]
    revision: int


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_state: Final = msgspec.msgpack.Decoder(PackedState).decode
_decode_items: Final = msgspec.msgpack.Decoder(tuple[ScoredItem, ...]).decode


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


def feature_message(state: UserState, interests: Mapping[str, float], segment: str | None) -> visitors_pb2.UserFeature:
    """A state, and what follows from it, as they are sent."""
    return visitors_pb2.UserFeature(
        recent=[model_pb2.Event(**{**one._asdict(), "action": one.action.value}) for one in state.recent],
        seen=state.seen,
        negative=state.negative,
        interests=interests,
        segment=segment,
        revision=state.revision,
    )


def wish_message(wish: SlateWish) -> visitors_pb2.SlateWish:
    """A wish as it is sent; of its event, what tells it from others."""
    message = visitors_pb2.SlateWish(visitor=visitor_message(wish.visitor))
    if wish.event is not None:
        timestamp, item_id, action, *_ = wish.event
        message.event.MergeFrom(model_pb2.Event(item_id=item_id, timestamp=timestamp, action=action.value))
    return message


def wish_of(message: visitors_pb2.SlateWish) -> SlateWish:
    """The wish that a message tells; raises `RequestError`."""
    visitor = visitor_of(message.visitor)
    if not message.HasField("event"):
        return SlateWish(visitor)
    event = message.event
    try:
        return SlateWish(visitor, RecentEvent(event.timestamp, event.item_id, Action(event.action)))
    except ValueError:
        raise RequestError(f"the action {event.action!r} is unknown; known are {', '.join(Action)}") from None


def inputs_message(inputs: Sequence[SlateInput | AsterismError]) -> visitors_pb2.GetSlateInputsResponse:
    """Inputs as they are sent; where a message could become too large, its last ones are cut."""
    message, room = visitors_pb2.GetSlateInputsResponse(), ROOM_BYTES
    for one in inputs:
        told = message.inputs.add()
        if isinstance(one, AsterismError):
            told.error.MergeFrom(message_of(one))
            continue
        state = b"" if one.state is None else packed_state(one.state)
        if len(state) > LARGEST_PART_BYTES:
            told.error.MergeFrom(message_of(RequestError(f"a state of {len(state)} bytes is too large to be sent")))
        elif len(state) > room and room < ROOM_BYTES:
            told.is_cut = True
        else:
            room -= len(state)
            told.state, told.is_late = state, one.is_late
            if one.last is not None:
                told.last.MergeFrom(visitors_pb2.LastSlate(**one.last._asdict()))
    return message


def input_of(message: visitors_pb2.SlateInput) -> SlateInput | AsterismError:
    """The input that a message tells, or the error; of one that cannot be read, that."""
    if message.HasField("error"):
        return error_of(message.error)
    last = None
    if message.HasField("last"):
        told = message.last
        scene = told.scene if told.HasField("scene") else None
        last = LastSlate(told.revision, scene, told.device if told.HasField("device") else None, told.asked)
    try:
        return SlateInput(state_of(message.state) if message.state else None, last, message.is_late)
    except RequestError as error:
        return error


def packed_state(state: UserState) -> bytes:
    """A state as it is sent."""
    return _encode(PackedState(state.recent, state.seen, state.negative, state.revision))


def state_of(packed: bytes) -> UserState:
    """A state as it was sent; raises `RequestError`."""
    try:
        found = _decode_state(packed)
    except msgspec.MsgspecError as error:
        raise RequestError(f"a packed state cannot be read ({error}); run worker and gateway of one version") from None
    return UserState(found.recent, found.seen, found.negative, found.revision)


def slate_message(visitor: Visitor, slate: Slate) -> visitors_pb2.Slate:
    """A visitor's slate as it is sent."""
    return visitors_pb2.Slate(
        visitor=visitor_message(visitor),
        items=_encode(slate.items),
        revision=slate.revision,
        bundle_version=slate.bundle_version,
        at_seconds=slate.at_seconds,
        scene=slate.scene,
        device=slate.device,
        asked=slate.asked,
        degraded=slate.degraded,
    )


def slate_of(message: visitors_pb2.Slate) -> tuple[Visitor, Slate]:
    """The visitor and the slate that a message tells; raises `RequestError`."""
    try:
        items = _decode_items(message.items)
    except msgspec.MsgspecError as error:
        raise RequestError(f"a slate's items cannot be read ({error}); run worker and gateway of one version") from None
    slate = Slate(
        items=items,
        revision=message.revision,
        bundle_version=message.bundle_version,
        at_seconds=message.at_seconds,
        scene=message.scene if message.HasField("scene") else None,
        device=message.device if message.HasField("device") else None,
        asked=message.asked,
        degraded=message.degraded,
    )
    return visitor_of(message.visitor), slate
