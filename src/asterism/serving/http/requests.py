"""Bodies of requests: strict about types, ranges and unknown fields."""

from __future__ import annotations

import uuid
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from asterism.core.records import Action
from asterism.data.item_attributes import Predicate
from asterism.serving.recommendation import Boost, RecommendRequest
from asterism.stores.event_log import Event
from asterism.stores.user_state import Visitor

Id = Annotated[str, Field(min_length=1, max_length=256)]
Label = Annotated[str, Field(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=1, le=100)]
Ids = Annotated[list[Id], Field(max_length=1000)]
Names = Annotated[list[Id], Field(max_length=100)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ContextBody(Body):
    """Where the visitor is, beside the scene; a model reads of it what it was trained on."""

    device: Label | None = None


class FiltersBody(Body):
    """What every recommended item must answer; one that lacks a price lies in no price range."""

    categories: Names = []  # one of them is enough
    min_price: Price | None = None  # bounds are included
    max_price: Price | None = None
    allow: Annotated[list[Id], Field(min_length=1, max_length=1000)] | None = None  # only these
    deny: Ids = []

    @model_validator(mode="after")
    def _prices_in_order(self) -> FiltersBody:
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(f"no price lies between `min_price` {self.min_price:g} and `max_price` {self.max_price:g}")
        return self

    def to_predicate(self) -> Predicate | None:
        """What is asked of attributes, if anything."""
        asked = Predicate(frozenset(self.categories), self.min_price, self.max_price)
        return None if asked == Predicate() else asked


class BoostBody(Body):
    """Multiplies the relevance of the named items, and of those with a named category or brand."""

    factor: Annotated[float, Field(gt=0, le=100)]  # below 1 it lowers
    items: Names = []
    categories: Names = []
    brands: Names = []

    @model_validator(mode="after")
    def _names_something(self) -> BoostBody:
        if not (self.items or self.categories or self.brands):
            raise ValueError("name `items`, `categories` or `brands` to boost")
        return self

    def to_boost(self) -> Boost:
        """As the recommender takes it."""
        return Boost(self.factor, frozenset(self.items), frozenset(self.categories), frozenset(self.brands))


class RecommendBody(Body):
    """Who asks for recommendations; nobody in particular where neither user nor session is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u1", "count": 10, "scene": "home", "explain": True},
                {
                    "user_id": "u1",
                    "filters": {"categories": ["lamps"], "max_price": 20},
                    "context": {"device": "phone"},
                },
            ]
        }
    )

    user_id: Id | None = None
    session_id: Id | None = None
    count: Count = 10
    scene: Label | None = None
    context: ContextBody = ContextBody()
    filters: FiltersBody = FiltersBody()
    boosts: Annotated[list[BoostBody], Field(max_length=20)] = []
    exclude: Ids = []
    cursor: str | None = None  # of the page before, to scroll on
    explain: bool = False

    def to_request(self) -> RecommendRequest:
        """As the recommender takes it."""
        visitor = Visitor(self.user_id, self.session_id)
        allowed = self.filters.allow
        return RecommendRequest(
            visitor=visitor,
            count=self.count,
            scene=self.scene,
            exclude=frozenset(self.exclude).union(self.filters.deny),
            explain=self.explain,
            device=self.context.device,
            wanted=self.filters.to_predicate(),
            allowed=None if allowed is None else frozenset(allowed),
            boosts=tuple(one.to_boost() for one in self.boosts),
            cursor=self.cursor,
        )


class RecommendBatchBody(Body):
    """Up to 100 requests for recommendations, each answered by itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [{"user_id": "u1"}, {"user_id": "u2"}]}]})

    requests: Annotated[list[RecommendBody], Field(min_length=1, max_length=100)]


class EventBody(Body):
    """One piece of feedback; without `event_id` a repeated request counts again."""

    item_id: Id
    action: Annotated[Action, Field(strict=False)] = Action.CLICK
    event_id: Id | None = None
    user_id: Id | None = None
    session_id: Id | None = None
    timestamp: Annotated[int, Field(ge=0)] | None = None
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    scene: Label | None = None
    attribution_id: Id | None = None

    def to_event(self, now_seconds: float) -> Event:
        """As the log keeps it; an id is made where none was given, and the time is now."""
        return Event(
            event_id=self.event_id or uuid.uuid4().hex,
            item_id=self.item_id,
            action=self.action,
            timestamp=int(now_seconds) if self.timestamp is None else self.timestamp,
            user_id=self.user_id,
            session_id=self.session_id,
            value=self.value,
            scene=self.scene,
            attribution_id=self.attribution_id,
        )


class FeedbackBody(EventBody):
    """One event, or up to 1000 as `events`; all are accepted or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u1", "item_id": "i7", "action": "click", "event_id": "9f1c"},
                {"events": [{"user_id": "u1", "item_id": "i7", "action": "purchase", "event_id": "9f1d"}]},
            ]
        }
    )

    item_id: Id | None = None  # type: ignore[assignment]  # absent where `events` is given
    events: Annotated[list[EventBody], Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_or_many(self) -> FeedbackBody:
        if (self.item_id is None) == (self.events is None):
            raise ValueError("give either one event with `item_id`, or `events`")
        if self.events is not None and self.model_fields_set != {"events"}:
            raise ValueError("beside `events` there may be no other field")
        return self

    def to_events(self, now_seconds: float) -> list[Event]:
        """All events of the request."""
        return [one.to_event(now_seconds) for one in (self.events if self.events is not None else [self])]
