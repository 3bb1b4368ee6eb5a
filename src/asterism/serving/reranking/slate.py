"""The slate: slot by slot, a pin, a draw, or the best of what the caps allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from asterism.core.errors import RequestError
from asterism.serving.reranking.caps import CapCounter, Caps
from asterism.serving.reranking.diversity import WIDEST_GAIN, Determinant, MarginalRelevance, Objective, Relevance
from asterism.serving.reranking.exploration import Choice, Exploration, choose

Method = Literal["none", "mmr", "dpp"]

_NO_DRAW: Final = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Candidates:
    """n candidates in the order they came."""

    relevance: NDArray[np.float64]  # (n,) higher is better
    tiers: NDArray[np.int64]  # (n,) a lower tier is used up before the next one
    members: NDArray[np.bool_]  # (n, C) which capped categories each is in
    explorable: NDArray[np.bool_]  # (n,) which ones may be drawn
    similarities: NDArray[np.floating] | None = None  # (n, n) cosines, 1 on the diagonal; read by mmr and dpp

    def __len__(self) -> int:
        return len(self.relevance)


@dataclass(frozen=True, slots=True)
class SlatePlan:
    """What a slate is made by."""

    slots: int
    pins: Mapping[int, int] = field(default_factory=dict)  # slot, from 0 → row
    caps: Caps | None = None
    diversity: Method = "none"
    strength: float = 0.0  # of the diversity, in [0, 1)
    exploration: Exploration | None = None


@dataclass(frozen=True, slots=True)
class Slate:
    """Rows in the order they are shown."""

    rows: NDArray[np.int64]  # (k,) k ≤ slots
    propensities: NDArray[np.float64]  # (k,) probability of each row, given those above it
    explored: NDArray[np.bool_]  # (k,) which ones were drawn


def arrange_slate(candidates: Candidates, plan: SlatePlan, seed: int = 0) -> Slate:
    """Fill the slots one by one; same seed, same slate.

    A pin stands at its slot, whatever the caps say, and counts in them. Every other slot takes the candidate of the
    lowest tier left that has the highest gain among those that break no cap, or a draw. Where nobody is
    left, the slate ends, with the pins behind that place moved up. Raises `RequestError` on similarities that are
    needed and missing.
    """
    filling = _Filling(candidates, plan)
    draws = (
        np.random.default_rng(seed).random((plan.slots, 2)).tolist() if plan.exploration else [_NO_DRAW] * plan.slots
    )
    chosen: list[Choice] = []
    for slot in range(plan.slots):
        if slot in plan.pins:
            chosen.append(_pinned(plan.pins[slot]))
            continue
        choice = filling.choice(slot, draws[slot])
        if choice is None:
            chosen += [_pinned(plan.pins[ahead]) for ahead in sorted(plan.pins) if slot < ahead < plan.slots]
            break
        filling.take(choice, slot)
        chosen.append(choice)
    return Slate(
        np.array([one.row for one in chosen], dtype=np.int64),
        np.array([one.propensity for one in chosen], dtype=np.float64),
        np.array([one.explored for one in chosen], dtype=np.bool_),
    )


class _Filling:
    """A slate on its way; pins are in it from the start, so that what comes before them knows of them."""

    def __init__(self, candidates: Candidates, plan: SlatePlan) -> None:
        self._candidates = candidates
        self._objective = _objective(candidates, plan)
        self._caps = CapCounter(plan.caps, candidates.members, plan.slots) if plan.caps is not None else None
        self._free = np.ones(len(candidates), dtype=np.bool_)
        self._exploration = plan.exploration
        self._draws_left = plan.exploration.most(plan.slots) if plan.exploration else 0
        self._drawable = (_ranks(candidates) >= plan.slots) & candidates.explorable
        for slot, row in plan.pins.items():
            if slot < plan.slots:
                self.take(_pinned(row), slot)

    def choice(self, slot: int, draws: tuple[float, float]) -> Choice | None:
        """Who comes at this slot; None where nobody is left."""
        admissible = self._caps.admissible(slot) if self._caps is not None else None
        open_to = self._free if admissible is None else self._free & admissible
        greedy = self._best(open_to)
        if greedy is None:
            return None
        if self._exploration is None or self._draws_left == 0 or slot < self._exploration.first_slot:
            return Choice(greedy, 1.0, explored=False)
        return choose(greedy, open_to & self._drawable, self._exploration.share, draws)

    def take(self, choice: Choice, slot: int) -> None:
        """Place a candidate."""
        self._free[choice.row] = False
        self._draws_left -= choice.explored
        self._objective.take(choice.row)
        if self._caps is not None:
            self._caps.place(choice.row, slot)

    def _best(self, open_to: NDArray[np.bool_]) -> int | None:
        gains = np.where(open_to, self._objective.gains, -np.inf)
        best = int(gains.argmax()) if len(gains) else 0
        return best if len(gains) and open_to[best] else None


def _ranks(candidates: Candidates) -> NDArray[np.int64]:
    """(n,) each candidate's place, from 0, by tier and then by relevance."""
    ranks = np.empty(len(candidates), dtype=np.int64)
    ranks[np.lexsort((-candidates.relevance, candidates.tiers))] = np.arange(len(candidates))
    return ranks


def _pinned(row: int) -> Choice:
    return Choice(row, 1.0, explored=False)


def _objective(candidates: Candidates, plan: SlatePlan) -> Objective:
    strength = 0.0 if plan.diversity == "none" else plan.strength
    relevance = _in_tiers(candidates, strength)
    if strength == 0.0:
        return Relevance(relevance)
    if candidates.similarities is None:
        raise RequestError(f"diversity by {plan.diversity} needs the candidates' similarities; give them")
    if plan.diversity == "mmr":
        return MarginalRelevance(relevance, candidates.similarities, strength)
    return Determinant(relevance, candidates.similarities, strength, plan.slots)


def _in_tiers(candidates: Candidates, strength: float) -> NDArray[np.float64]:
    """(n,) the relevance, so much lower from tier to tier that no likeness to the chosen makes up for it."""
    if len(candidates) == 0:
        return candidates.relevance
    _, ranks = np.unique(candidates.tiers, return_inverse=True)
    step = float(np.ptp(candidates.relevance)) + 1.0 + WIDEST_GAIN * strength / (1.0 - strength)
    lowered: NDArray[np.float64] = candidates.relevance - step * ranks
    return lowered
