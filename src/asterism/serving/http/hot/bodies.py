"""Bodies of the hot requests, read in a few microseconds.

Whatever is read here, `asterism.serving.http.requests` reads the same; whatever is refused here is given to it, and it
says what is wrong (or takes what is odd but allowed, such as JSON in UTF-16). So there is one set of rules and of
sentences, and the description of the API stays true.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from asterism.core.drawn_ids import drawn_id
from asterism.core.records import Action
from asterism.data.item_attributes import Predicate
from asterism.serving.pages import PageKey, page_key_of
from asterism.serving.recommendation import Boost, RecommendRequest
from asterism.stores.event_log import Event
from asterism.stores.user_state import Visitor

_FINITE: Final = sys.float_info.max

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(min_length=1, max_length=64)]
Ids = Annotated[tuple[Id, ...], Meta(max_length=1000)]
Names = Annotated[tuple[Id, ...], Meta(max_length=100)]
Price = Annotated[float, Meta(ge=0, le=_FINITE)]


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False, frozen=True):
    pass


class _Context(_Body, frozen=True):
    device: Label | None = None


class _Filters(_Body, frozen=True):
    categories: Names = ()
    min_price: Price | None = None
    max_price: Price | None = None
    allow: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=1000)] | None = None
    deny: Ids = ()

    def predicate(self) -> Predicate | None:
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise msgspec.ValidationError("no price lies between these")
        if not self.categories and self.min_price is None and self.max_price is None:
            return None
        return Predicate(frozenset(self.categories), self.min_price, self.max_price)


class _Boost(_Body, frozen=True):
    factor: Annotated[float, Meta(gt=0, le=100)]
    items: Names = ()
    categories: Names = ()
    brands: Names = ()

    def boost(self) -> Boost:
        if not (self.items or self.categories or self.brands):
            raise msgspec.ValidationError("nothing is boosted")
        return Boost(self.factor, frozenset(self.items), frozenset(self.categories), frozenset(self.brands))


class _Recommend(_Body, frozen=True):
    user_id: Id | None = None
    session_id: Id | None = None
    count: Annotated[int, Meta(ge=1, le=100)] = 10
    scene: Label | None = None
    context: _Context = _Context()
    filters: _Filters = _Filters()
    boosts: Annotated[tuple[_Boost, ...], Meta(max_length=20)] = ()
    exclude: Ids = ()
    cursor: str | None = None
    explain: bool = False


class _Event(_Body, frozen=True):
    item_id: Id
    action: Action = Action.CLICK
    event_id: Id | None = None
    user_id: Id | None = None
    session_id: Id | None = None
    timestamp: Annotated[int, Meta(ge=0)] | None = None
    value: Annotated[float, Meta(ge=-_FINITE, le=_FINITE)] | None = None
    scene: Label | None = None
    attribution_id: Id | None = None

    def event(self, now_seconds: float) -> Event:
        return Event(
            self.event_id or drawn_id(),
            self.item_id,
            self.action,
            int(now_seconds) if self.timestamp is None else self.timestamp,
            self.user_id,
            self.session_id,
            self.value,
            self.scene,
            self.attribution_id,
        )


class _Events(_Body, frozen=True):
    events: Annotated[tuple[_Event, ...], Meta(min_length=1, max_length=1000)]


_RECOMMEND: Final = msgspec.json.Decoder(_Recommend)
_ONE_EVENT: Final = msgspec.json.Decoder(_Event)
_EVENTS: Final = msgspec.json.Decoder(_Events)


_NO_FILTERS: Final = _Filters()


def page_key(body: bytes) -> PageKey | None:
    """What a body's answer is kept under; None where it says more than that, or `recommend_request` takes it not."""
    try:
        read = _RECOMMEND.decode(body)
    except ValueError:
        return None
    says_more = read.exclude or read.boosts or read.cursor is not None or read.explain or read.filters != _NO_FILTERS
    if says_more:
        return None
    return page_key_of(Visitor(read.user_id, read.session_id), read.scene, read.context.device, read.count)


def recommend_request(body: bytes) -> RecommendRequest | None:
    """What a body asks for, or None where `RecommendBody` must be asked."""
    try:
        read = _RECOMMEND.decode(body)
        wanted = read.filters.predicate()
        boosts = tuple(one.boost() for one in read.boosts)
    except ValueError:  # of msgspec, and of text that is no UTF-8
        return None
    allowed = read.filters.allow
    return RecommendRequest(
        visitor=Visitor(read.user_id, read.session_id),
        count=read.count,
        scene=read.scene,
        exclude=frozenset(read.exclude).union(read.filters.deny),
        explain=read.explain,
        device=read.context.device,
        wanted=wanted,
        allowed=None if allowed is None else frozenset(allowed),
        boosts=boosts,
        cursor=read.cursor,
    )


def feedback_events(body: bytes, now_seconds: float) -> list[Event] | None:
    """The events of a body, or None where `FeedbackBody` must be asked; a body with both forms is none of either."""
    for decoder in (_ONE_EVENT, _EVENTS):
        try:
            read: _Event | _Events = decoder.decode(body)
        except ValueError:
            continue
        return [one.event(now_seconds) for one in (read.events if isinstance(read, _Events) else (read,))]
    return None
