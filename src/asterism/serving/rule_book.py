"""Business rules by scene, as factors and masks over the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asterism.config.reranking import RuleConfig
from asterism.serving.item_facts import ItemFacts
from asterism.serving.recommendation import Boost

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SceneRules:
    """What holds in a scene; arrays are (items + 1,), the last row being that of unknown items."""

    factors: NDArray[np.float64]
    buried: NDArray[np.bool_]
    hidden: frozenset[str]  # item ids
    pins: Mapping[int, str]  # slot, from 0 → item id


class RuleBook:
    """Rules over one catalogue; what holds in a scene is worked out once."""

    def __init__(self, rules: tuple[RuleConfig, ...], facts: ItemFacts) -> None:
        """Take the rules; one that names what the catalogue lacks is told in the log, as it may come back."""
        self._rules = rules
        self._facts = facts
        self._kept: dict[tuple[bool, ...], SceneRules] = {}
        _warn_of_strangers(rules, facts)

    def of_scene(self, scene: str | None) -> SceneRules:
        """The rules that hold in a scene."""
        holding = tuple(one.holds_in(scene) for one in self._rules)
        if holding not in self._kept:
            self._kept[holding] = self._worked_out([one for one in self._rules if one.holds_in(scene)])
        return self._kept[holding]

    def factors_of(self, boosts: Iterable[Boost], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) what boosts of a request make of the items at `rows` (n,), -1 for unknown ones."""
        factors = np.ones(len(rows))
        for one in boosts:
            factors[self._facts.named(rows, one.items, one.categories, one.brands)] *= one.factor
        return factors

    def _worked_out(self, rules: list[RuleConfig]) -> SceneRules:
        factors = np.ones(len(self._facts) + 1)
        buried, hidden = np.zeros(len(factors), np.bool_), np.zeros(len(factors), np.bool_)
        pins: dict[int, str] = {}
        everywhere = np.append(np.arange(len(self._facts)), -1)
        for one in rules:
            if one.do == "pin" and one.slot is not None:
                pins[one.slot - 1] = one.items[0]
                continue
            named = self._facts.named(everywhere, one.items, one.categories, one.brands)
            if one.factor is not None:
                factors[named] *= one.factor
            elif one.do == "bury":
                buried |= named
            else:
                hidden |= named
        ids = frozenset(map(self._facts.ids.id_of, np.flatnonzero(hidden).tolist()))
        return SceneRules(factors, buried, ids, pins)


def _warn_of_strangers(rules: tuple[RuleConfig, ...], facts: ItemFacts) -> None:
    known = (("items", facts.ids), ("categories", facts.category_names), ("brands", facts.brand_names))
    for number, rule in enumerate(rules, start=1):
        for key, names in known:
            strange = [one for one in getattr(rule, key) if one not in names]
            if strange:
                listed = ", ".join(strange)
                logger.warning("rule %d (%s): the catalogue has no such %s: %s", number, rule.do, key, listed)
