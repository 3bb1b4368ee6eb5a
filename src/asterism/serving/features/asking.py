"""From a visitor's state to what the engine is asked: one way, for requests, nearline slates and replays."""

from __future__ import annotations

from typing import cast

from asterism.data.item_attributes import Predicate
from asterism.serving.ports import EngineRequest, HistoryEvent
from asterism.stores.user_state import UserState


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
        history=cast(tuple[HistoryEvent, ...], state.recent),  # field by field the same
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
