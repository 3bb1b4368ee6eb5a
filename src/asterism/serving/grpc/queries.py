"""A request and its answer as messages: packed between Asterism's own processes, in plain fields for everybody else."""

from __future__ import annotations

import time
from collections.abc import MutableSequence, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from asterism.core.errors import AsterismError, RequestError
from asterism.core.records import Action
from asterism.core.semantic_id import SemanticId
from asterism.data.item_attributes import Predicate
from asterism.serving.grpc import errors
from asterism.serving.grpc.proto import model_pb2
from asterism.serving.ports import EngineAnswer, EngineRequest, HistoryEvent, ScoredItem

#: Raised whenever `EngineRequest` or `ScoredItem` changes in a way that the other side could not read.
PACKED_FORMAT: Final = 2
_ACTIONS: Final = frozenset(one.value for one in Action)
_MICRO: Final = 1e6
_MOST_ITEMS: Final = 10_000
_LATEST: Final = 2**63 - 1
_ACTION, _TIMESTAMP = attrgetter("action"), attrgetter("timestamp")

_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(EngineRequest).decode
_decode_items = msgspec.msgpack.Decoder(tuple[ScoredItem, ...]).decode


def query_of(request: EngineRequest, packed_format: int) -> model_pb2.Query:
    """A request as it is sent; in plain fields where the other side reads another packed format."""
    budget = None
    if request.deadline is not None:
        budget = max(0, int((request.deadline - time.monotonic()) * _MICRO))
    if packed_format == PACKED_FORMAT:
        return model_pb2.Query(packed=_encode(request), budget_us=budget)
    return model_pb2.Query(
        budget_us=budget,
        history=[event_message(one) for one in request.history],
        count=request.count,
        excluded=request.excluded,
        user_id=request.user_id,
        timestamp=request.timestamp,
        scene=request.scene,
        device=request.device,
        wanted=None if request.wanted is None else _predicate_message(request.wanted),
        allowed=None if request.allowed is None else model_pb2.ItemList(item_ids=request.allowed),
        background=request.background,
    )


def request_of(query: model_pb2.Query, call_seconds: float | None) -> EngineRequest:
    """A request as the engine reads it, with what is left of the call as its deadline; raises `RequestError`."""
    seconds = query.budget_us / _MICRO if query.HasField("budget_us") else call_seconds
    deadline = None if seconds is None else time.monotonic() + seconds
    if query.packed:
        try:
            request = _due(_decode_request(query.packed), deadline)
        except msgspec.MsgspecError as error:
            raise RequestError(f"a packed query cannot be read ({error}); send its plain fields") from None
        _check_count(request.count)
        _check_events(request)
        return request
    _check_count(query.count)
    return EngineRequest(
        history=tuple(map(_event_of, query.history)),
        count=query.count,
        excluded=frozenset(query.excluded),
        user_id=query.user_id if query.HasField("user_id") else None,
        timestamp=query.timestamp if query.HasField("timestamp") else None,
        scene=query.scene if query.HasField("scene") else None,
        deadline=deadline,
        device=query.device if query.HasField("device") else None,
        wanted=_predicate_of(query.wanted) if query.HasField("wanted") else None,
        allowed=frozenset(query.allowed.item_ids) if query.HasField("allowed") else None,
        background=query.background,
    )


def result_of(answer: EngineAnswer, *, packed: bool) -> model_pb2.Result:
    """An answer as it is sent."""
    result = model_pb2.Result(bundle_version=answer.bundle_version or "", beam=answer.beam, degraded=answer.degraded)
    if packed:
        result.packed = _encode(answer.items)
        return result
    result.item_ids.extend(one.item_id for one in answer.items)
    result.scores.extend(one.score for one in answer.items)
    result.levels = flatten([one.semantic_id for one in answer.items], result.codes)
    return result


def failure_of(error: AsterismError) -> model_pb2.Result:
    """An error in place of an answer."""
    return model_pb2.Result(error=errors.message_of(error))


def answer_of(result: model_pb2.Result) -> EngineAnswer:
    """The answer that a result tells; raises the error that it tells."""
    if result.HasField("error"):
        raise errors.error_of(result.error)
    beam = result.beam if result.HasField("beam") else None
    if result.packed:
        items = _decode_items(result.packed)
    else:
        paths = unflattened(result.codes, result.levels, len(result.item_ids))
        items = tuple(map(ScoredItem, result.item_ids, result.scores, paths))
    return EngineAnswer(items, result.bundle_version, beam, result.degraded)


def flatten(paths: Sequence[SemanticId], codes: MutableSequence[int]) -> int:
    """Append semantic ids of one length, one after the other; that length, 0 where there are none."""
    for path in paths:
        codes.extend(path)
    return len(paths[0]) if paths else 0


def unflattened(codes: Sequence[int], levels: int, items: int) -> list[SemanticId]:
    """Semantic ids again; raises `RequestError` where they do not go with the items."""
    if len(codes) != levels * items:
        raise RequestError(f"{items} items of {levels} codes came with {len(codes)} codes")
    flat = tuple(codes)
    return [flat[start : start + levels] for start in range(0, len(flat), levels)] if levels else [()] * items


def event_message(event: HistoryEvent) -> model_pb2.Event:
    """An event as it is sent."""
    return model_pb2.Event(**event._asdict())


def _due(request: EngineRequest, deadline: float | None) -> EngineRequest:
    """The same with a deadline; written out, as `dataclasses.replace` takes ten times as long."""
    return EngineRequest(
        request.history,
        request.count,
        request.excluded,
        request.user_id,
        request.timestamp,
        request.scene,
        deadline,
        request.device,
        request.wanted,
        request.allowed,
        request.trace,
        request.background,
    )


def _check_count(count: int) -> None:
    if not 1 <= count <= _MOST_ITEMS:
        raise RequestError(f"`count` is {count}; ask for 1 to {_MOST_ITEMS} items")


def _check_events(request: EngineRequest) -> None:
    """What messages hold by their fields' types, and packed forms do not."""
    if not _ACTIONS.issuperset(map(_ACTION, request.history)):
        _check_action(next(one for one in map(_ACTION, request.history) if one not in _ACTIONS))
    moments = [0 if request.timestamp is None else request.timestamp, *map(_TIMESTAMP, request.history)]
    if max(moments) > _LATEST:
        raise RequestError(f"the moment {max(moments)} does not fit into 64 bits with a sign; give Unix seconds")


def _check_action(action: str) -> None:
    if action not in _ACTIONS:
        raise RequestError(f"the action {action!r} is unknown; known are {', '.join(sorted(_ACTIONS))}")


def _event_of(event: model_pb2.Event) -> HistoryEvent:
    _check_action(event.action)
    return HistoryEvent(
        event.timestamp,
        event.item_id,
        event.action,
        event.value if event.HasField("value") else None,
        event.scene if event.HasField("scene") else None,
        event.device if event.HasField("device") else None,
    )


def _predicate_message(wanted: Predicate) -> model_pb2.Predicate:
    return model_pb2.Predicate(
        categories=wanted.categories, lowest_price=wanted.lowest_price, highest_price=wanted.highest_price
    )


def _predicate_of(wanted: model_pb2.Predicate) -> Predicate:
    return Predicate(
        frozenset(wanted.categories),
        wanted.lowest_price if wanted.HasField("lowest_price") else None,
        wanted.highest_price if wanted.HasField("highest_price") else None,
    )
