"""From a visitor's state to what the engine is asked: one way, for requests, nearline slates and replays."""

from __future__ import annotations

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
        history=tuple(map(history_event, state.recent)),
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


def history_event(event: RecentEvent) -> HistoryEvent:
    """An event of a state as the model reads it."""
    timestamp, item_id, action, value, scene, device = event
    return HistoryEvent(item_id, timestamp, action._value_, value, scene, device)  # `.value` costs half of all this
