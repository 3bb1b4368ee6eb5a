"""From logged features back to what the engine was asked, so that training sees what serving saw."""

from __future__ import annotations

from asterism.data.item_attributes import Predicate
from asterism.serving.features.asking import engine_request
from asterism.serving.ports import EngineRequest
from asterism.serving.recommendation import RecommendRequest
from asterism.stores.exposure_log import Exposure
from asterism.stores.slates import Slate
from asterism.stores.used_features import Bounds, UsedFeatures
from asterism.stores.user_state import UserState


def used_features(
    request: RecommendRequest, state: UserState, slate: Slate | None, more_excluded: frozenset[str], at_seconds: float
) -> UsedFeatures:
    """What an answer to `request` was made from: this state, and the slate that the model made of it, if it did.

    `more_excluded` is what the answer could not hold beyond what the state leaves out; it may name some of that too.
    """
    if slate is None or slate.revision != state.revision:
        return UsedFeatures(state, at_seconds, 0, request.scene, request.device)
    wanted = request.wanted
    return UsedFeatures(
        state=state,
        at_seconds=slate.at_seconds,
        asked=slate.asked,
        scene=slate.scene,
        device=slate.device,
        more_excluded=more_excluded - state.left_out if more_excluded else more_excluded,
        wanted=None
        if wanted is None
        else Bounds(tuple(sorted(wanted.categories)), wanted.lowest_price, wanted.highest_price),
        allowed=request.allowed,
    )


def asked_again(exposure: Exposure) -> EngineRequest | None:
    """What the engine was asked for an answer; None where it was not asked, or the features were erased."""
    used = exposure.used
    if used is None or used.asked == 0:
        return None
    return engine_request(
        used.state,
        user_id=exposure.user_id,
        count=used.asked,
        timestamp=int(used.at_seconds),
        excluded=used.state.left_out | used.more_excluded,
        scene=used.scene,
        device=used.device,
        wanted=None
        if used.wanted is None
        else Predicate(frozenset(used.wanted.categories), used.wanted.lowest_price, used.wanted.highest_price),
        allowed=used.allowed,
    )
