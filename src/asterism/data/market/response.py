"""How people react to a slate: the position-based click model, then how deep an engagement goes.

    P(click at position p) = examination(p) · attraction(j | state)
    examination(p) = p^-bias,   attraction = sigmoid(offset + slope · log(N · P(j | state) + 0.05))

An engagement is one row of the log, its deepest action, so that a history is a sequence of different items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asterism.core.records import ACTION_CODES, Action
from asterism.data.market.config import MarketConfig
from asterism.data.market.latent import KINDS, ItemTruth

OUTCOMES: Final = (
    Action.CLICK,
    Action.VIEW,
    Action.CART,
    Action.PURCHASE,
    Action.FAVORITE,
    Action.SHARE,
    Action.RATING,
)
OUTCOME_CODES: Final = np.array([ACTION_CODES[one] for one in OUTCOMES], dtype=np.int8)
SKIP_CODE: Final = ACTION_CODES[Action.SKIP]
DISLIKE_CODE: Final = ACTION_CODES[Action.DISLIKE]
VIEW, PURCHASE, RATING = (OUTCOMES.index(one) for one in (Action.VIEW, Action.PURCHASE, Action.RATING))
_CART = OUTCOMES.index(Action.CART)

#: Per kind, the usual shares of OUTCOMES.
_BASE: Final = {
    "product": (0.32, 0.40, 0.12, 0.08, 0.05, 0.01, 0.02),
    "video": (0.26, 0.56, 0.0, 0.0, 0.10, 0.06, 0.02),
    "article": (0.32, 0.53, 0.0, 0.0, 0.08, 0.06, 0.01),
    "music": (0.20, 0.52, 0.0, 0.05, 0.17, 0.04, 0.02),
    "movie": (0.24, 0.48, 0.0, 0.07, 0.09, 0.02, 0.10),
}
#: How much liking (quality and attraction) shifts each outcome's log-odds.
_DEPTH: Final = np.array([-0.6, 0.0, 0.5, 0.9, 0.8, 0.6, 0.3])
_SKIP_SHARE: Final = 0.06  # of what was seen and not wanted
_DISLIKE_SHARE: Final = 0.03  # likewise, for items without any attraction
_SMOOTHING: Final = 0.05


class Event(NamedTuple):
    """One row of the log as a simulated user answers a slate; positions count from 1."""

    user_id: str
    item_id: str
    timestamp: int  # Unix seconds
    action: Action
    value: float | None  # dwell seconds of a view, 1-5 of a rating, position of an impression
    position: int


@dataclass(frozen=True, slots=True)
class Reaction:
    """What happened to every position of R slates of K items."""

    clicked: NDArray[np.bool_]  # (R, K) any engagement
    action: NDArray[np.int8]  # (R, K) code of the deepest action, or of skip or dislike; 0 where nothing was logged
    value: NDArray[np.float32]  # (R, K) dwell seconds or rating, NaN where there is none


def examination(config: MarketConfig, positions: int) -> NDArray[np.float64]:
    """(positions,) the probability that each position is looked at."""
    return np.arange(1, positions + 1, dtype=np.float64) ** -config.position_bias


def attraction(config: MarketConfig, wish: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of a click on an item that is looked at, from its wish probability; same shape.

    What cannot be wished for (taken, withdrawn, not yet there) is never clicked.
    """
    score = config.click_offset + config.click_slope * np.log(config.items * wish + _SMOOTHING)
    return np.where(wish > 0, 1.0 / (1.0 + np.exp(-score)), 0.0)


def outcome_shares(
    truth: ItemTruth, items: NDArray[np.integer], attracted: NDArray[np.float64], sensitivity: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(E, len(OUTCOMES)) the distribution of an engagement's deepest action; all arguments (E,)."""
    base = np.array([_BASE[kind.value] for kind in KINDS])[truth.kind[items]]
    liking = 0.7 * truth.quality[items] + 1.2 * (attracted - 0.3)
    factor = np.exp(_DEPTH * liking[:, None])
    dear = sensitivity * np.log(np.nan_to_num(truth.price[items], nan=30.0) / 30.0)
    factor[:, [_CART, PURCHASE]] *= np.exp(-0.5 * dear)[:, None]
    shares = base * factor
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def react(
    config: MarketConfig,
    truth: ItemTruth,
    slates: NDArray[np.integer],
    attracted: NDArray[np.float64],
    sensitivity: NDArray[np.floating],
    rng: np.random.Generator,
) -> Reaction:
    """Draw the reactions to slates (R, K), -1 where empty, of attraction (R, K), by users of `sensitivity` (R,)."""
    shown = slates >= 0
    seen = shown & (rng.random(slates.shape) < examination(config, slates.shape[1]))
    clicked = seen & (rng.random(slates.shape) < attracted)
    action = np.zeros(slates.shape, dtype=np.int8)
    value = np.full(slates.shape, np.nan, dtype=np.float32)
    refusal = rng.random(slates.shape)
    ignored = seen & ~clicked
    action[ignored & (refusal < _SKIP_SHARE)] = SKIP_CODE
    action[ignored & (refusal > 1 - _DISLIKE_SHARE * (1 - attracted) ** 2)] = DISLIKE_CODE
    rows, columns = np.nonzero(clicked)
    items = slates[rows, columns]
    outcome, values = _deepen(truth, items, attracted[rows, columns], sensitivity[rows], rng)
    action[rows, columns] = OUTCOME_CODES[outcome]
    value[rows, columns] = values
    return Reaction(clicked, action, value)


def _deepen(
    truth: ItemTruth,
    items: NDArray[np.integer],
    attracted: NDArray[np.float64],
    sensitivity: NDArray[np.floating],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    shares = np.cumsum(outcome_shares(truth, items, attracted, sensitivity), axis=1)
    outcome = np.minimum((shares <= rng.random((len(items), 1))).sum(axis=1), len(OUTCOMES) - 1)
    noise = rng.normal(size=len(items))
    dwell = np.clip(np.exp(3.6 + 0.6 * truth.quality[items] + attracted + 0.5 * noise), 3.0, 900.0)
    stars = np.clip(np.round(3.6 + 0.8 * truth.quality[items] + 0.6 * noise), 1.0, 5.0)
    value = np.where(outcome == VIEW, np.round(dwell, 1), np.where(outcome == RATING, stars, np.nan))
    return outcome, value.astype(np.float32)
