"""What the recommender needs from a model, in items and ids alone: no tensors, no processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from asterism.core.bundle import Bundle
from asterism.core.semantic_id import SemanticId
from asterism.data.item_attributes import Predicate
from asterism.serving.engine.status import EngineStatus
from asterism.stores.slates import ScoredItem as ScoredItem


class HistoryEvent(NamedTuple):
    """A positive event of the asking user; `action` is a value of `core.records.Action`.

    A tuple, as there are many of them: on its way to the engine it costs a seventh of what an object with names does.
    Its fields are those of a state's `RecentEvent`, in their order, so that a state's events are sent as they are.
    """

    timestamp: int  # Unix seconds
    item_id: str
    action: str
    value: float | None = None
    scene: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """After this history (time-ordered, oldest first), which `count` items, none of them excluded?"""

    history: tuple[HistoryEvent, ...]
    count: int
    excluded: frozenset[str] = frozenset()
    user_id: str | None = None  # for a model that reads users' attributes
    timestamp: int | None = None  # of the request, Unix seconds
    scene: str | None = None  # of the request
    deadline: float | None = None  # on the clock of time.monotonic, which all processes of a machine share
    device: str | None = None  # of the request
    wanted: Predicate | None = None  # what every item must answer
    allowed: frozenset[str] | None = None  # only these, where they are named
    trace: str | None = None  # W3C trace context of the caller, where that is recorded
    background: bool = False  # nobody waits in person: whoever does goes first


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """Items, best first; fewer than asked for where the catalogue has no more.

    The rest is told by the `EngineClient`: which bundle answered, how wide the beam was (None where the engine has
    none), and whether that was narrower than configured.
    """

    items: tuple[ScoredItem, ...]
    bundle_version: str | None = None
    beam: int | None = None
    degraded: bool = False


class Engine(Protocol):
    """A model that answers many requests at once, in the process where it was loaded."""

    def recommend(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """One answer for each request, in their order; a history may hold items the model does not know."""
        ...

    def semantic_ids(self) -> dict[str, SemanticId]:
        """The semantic id of every item the model knows."""
        ...


@runtime_checkable
class ElasticEngine(Engine, Protocol):
    """An engine whose effort can be chosen, and whose catalogue changes while it runs."""

    @property
    def beam(self) -> int:
        """The configured width of its beam."""
        ...

    def recommend_within(
        self, requests: Sequence[EngineRequest], beam: int, wanted: Callable[[], bool]
    ) -> list[EngineAnswer]:
        """As `recommend`, this wide, or for a row as wide as it wants items where these are more.

        Raises `AbandonedError` soon after `wanted` has become false.
        """
        ...

    def set_available(self, item_ids: Iterable[str], available: bool) -> None:
        """Take items out of all answers, or back in; ids that the model does not know are passed over."""
        ...

    def kept_bytes(self) -> dict[str, int]:
        """What it keeps between requests, each store by name; none grows without bound."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """An engine that keeps something of users between their requests."""

    def forget(self, digests: Sequence[str]) -> None:
        """Drop what is kept of these users, by their `digest_of`, known or not."""
        ...


#: Loads an engine from a bundle's folder; named as `module:function` on the command line.
EngineFactory = Callable[[Path], Engine]


class EngineClient(Protocol):
    """An engine somewhere else, which may be slow, busy, or dead just now."""

    @property
    def bundle_version(self) -> str:
        """Of the bundle that answers, as far as it is known here."""
        ...

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        """One answer; raises `ModelError` when the engine fails or died, `OverloadedError` when it comes too late.

        Cancelling the call withdraws the request, wherever it is.
        """
        ...

    def semantic_id(self, item_id: str) -> SemanticId | None:
        """The semantic id of an item, or None while the engine has not told it."""
        ...


class EngineHandle(EngineClient, Protocol):
    """The engine of a service from its start to its end: processes of this service, or another process's."""

    def start(self) -> None:
        """Start the processes, or look for them, and from now on keep to them; for a running event loop."""
        ...

    async def stop(self) -> None:
        """Let go of them; requests that wait fail."""
        ...

    @property
    def status(self) -> EngineStatus:
        """How the engine is, as far as is known here."""
        ...

    async def wait_ready(self) -> None:
        """Return once an engine is loaded; raises `ModelError` where it refused before it ever was."""
        ...

    async def forget(self, digests: Sequence[str]) -> None:
        """Drop what engines keep of users, by their `digest_of`; one that is gone has kept nothing."""
        ...

    async def swap(self, bundle: Bundle) -> None:
        """Serve another bundle from now on; raises `ModelError`, and the old one goes on, where it cannot be loaded."""
        ...
