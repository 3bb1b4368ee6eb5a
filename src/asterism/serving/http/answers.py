"""What answers hold: one model a route, from which the OpenAPI description and the page's types are made."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

Data = TypeVar("Data")
SourceName = Literal["model", "stale", "popular_segment", "popular"]
ItemSourceName = Literal["model", "stale", "popular_segment", "popular", "pinned", "new"]
ModeName = Literal["semantic", "collaborative", "hybrid"]


class Envelope(BaseModel, Generic[Data]):
    """Around every answer; `code` is 0 on success."""

    code: int
    message: str
    data: Data
    trace_id: str


class ErrorEnvelope(BaseModel):
    """Around every error; docs/api.md lists the codes."""

    code: int
    message: str
    data: None
    trace_id: str


class ItemCard(BaseModel):
    """An item as a page shows it; `cover` is the path of an SVG image."""

    item_id: str
    title: str
    description: str | None
    categories: list[str]
    brand: str | None
    price: float | None
    kind: str
    available: bool
    cover: str | None
    semantic_id: list[int] | None
    semantic_id_text: str | None


class BecauseCard(BaseModel):
    """The item of the user's history that lies nearest."""

    item_id: str
    title: str
    similarity: float


class WeighedCard(BaseModel):
    """How an item was weighed: relevance = boost · freshness / log2(1 + place); `place` is that before re-ranking."""

    place: int
    relevance: float
    boost: float
    freshness: float


class RecommendedCard(ItemCard):
    """A recommended item; `propensity` is the probability of it standing here, given the items above it."""

    source: ItemSourceName
    score: float | None
    because: BecauseCard | None
    weighed: WeighedCard | None
    propensity: float
    explored: bool


class RecommendData(BaseModel):
    """A slate; `cached` tells that the model had said it before, `degraded` that it had less time than it wants."""

    attribution_id: str
    source: SourceName
    cached: bool
    degraded: bool
    bundle_version: str
    latency_ms: float
    cursor: str | None
    items: list[RecommendedCard]


class BatchEntry(BaseModel):
    """The answer to one request of a batch; `data` is null where `code` is not 0."""

    code: int
    message: str
    data: RecommendData | None


class BatchData(BaseModel):
    """Answers in the order of the requests."""

    answers: list[BatchEntry]


class EventVerdict(BaseModel):
    """Whether an event was new; a known `event_id` is not counted again."""

    event_id: str
    new: bool


class FeedbackData(BaseModel):
    """All events are on the disk when this is sent."""

    accepted: int
    duplicates: int
    events: list[EventVerdict]


class SimilarCard(ItemCard):
    """A neighbour; `similarity` is on the scale of the mode."""

    similarity: float


class SimilarData(BaseModel):
    """Neighbours, nearest first."""

    mode: ModeName
    items: list[SimilarCard]


class SampledUser(BaseModel):
    """A user to try the service as."""

    user_id: str
    events: int
    interest: str | None


class UsersData(BaseModel):
    """Some users with a history."""

    users: list[SampledUser]


class PastEventCard(BaseModel):
    """A positive event of a user."""

    item: ItemCard
    action: str
    timestamp: int


class Interest(BaseModel):
    """A share of a user's interest."""

    category: str
    weight: float


class ProfileData(BaseModel):
    """A user as the service sees them; `recent` is newest first."""

    user_id: str
    events: int
    segment: str | None
    interests: list[Interest]
    recent: list[PastEventCard]


class EngineProcessData(BaseModel):
    """One engine process."""

    ready: bool
    pid: int | None
    starts: int
    error: str | None
    kept_bytes: dict[str, int]


class EngineFiguresData(BaseModel):
    """What the engine did since the start, and how it is now; docs/serving.md explains each."""

    waiting: int
    under_way: int
    answered: int
    degraded: int
    shed: int
    late: int
    withdrawn: int
    failed: int
    batches: int
    mean_rows: float
    widths: dict[str, int]
    speed: float
    spread: float
    lone_ms: float
    full_ms: float


class EngineData(BaseModel):
    """The engine processes together."""

    ready: bool
    pid: int | None
    starts: int
    error: str | None
    bundle_version: str
    widths: list[int]
    engines: list[EngineProcessData]
    figures: EngineFiguresData


class ReadyData(BaseModel):
    """What the service runs on."""

    bundle_version: str
    bundle_name: str
    items: int
    engine: EngineData


class UnreadyEnvelope(BaseModel):
    """The one error that keeps its data: what the service runs on, while the model does not answer."""

    code: int
    message: str
    data: ReadyData
    trace_id: str


class SessionData(BaseModel):
    """An id that nobody else has, and that nothing is kept under yet."""

    session_id: str


class LiveData(BaseModel):
    """The process answers."""

    status: Literal["live"]
