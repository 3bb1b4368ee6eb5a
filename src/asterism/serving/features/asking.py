"""From a visitor's state to what the engine is asked: one way, for requests, nearline slates and replays."""

from __future__ import annotations

from collections.abc import Iterable

from asterism.data.item_attributes import Predicate
from asterism.serving.ports import EngineRequest, HistoryEvent
from asterism.stores.user_state import RecentEvent, UserState


def engine_request(
    state: UserState,
    *,
    user_id: str | None,
    count: int,
    timestamp: int,
    excluded: frozenset[str] | None = None,
    scene: str | None = None,
    device: str | None = None,
    wanted: Predicate | None = None,
    allowed: frozenset[str] | None = None,
    deadline: float | None = None,
    background: bool = False,
) -> EngineRequest:
    """What the engine is asked after this state, at `timestamp` (Unix seconds).

    What no answer may hold, `excluded`, is by default what the state leaves out.
    """
    return EngineRequest(
        history=history_of(state.recent),
        count=count,
        excluded=state.left_out if excluded is None else excluded,
        user_id=user_id,
        timestamp=timestamp,
        scene=scene,
        deadline=deadline,
        device=device,
        wanted=wanted,
        allowed=allowed,
        background=background,
    )


def history_of(recent: Iterable[RecentEvent]) -> tuple[HistoryEvent, ...]:
    """Events of a state as the model reads them."""
    # taken apart, as each name of a tuple, an enum's `value` and a constructor in Python cost more than the tuple itself
    new = tuple.__new__
    events = [
        new(HistoryEvent, (item_id, timestamp, action._value_, value, scene, device))
        for timestamp, item_id, action, value, scene, device in recent
    ]
    return tuple(events)
