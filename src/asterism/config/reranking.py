"""How a service makes slates of candidates; by default it leaves their order alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from asterism.config.section import Positive, Probability, Section, Weight

#: In `caps`: each category by itself, but for those that every item has.
EACH_CATEGORY = "*"
#: Candidates that an answer may be made of at most.
MAX_CANDIDATES = 500

Name = Annotated[str, Field(min_length=1)]
Factor = Annotated[float, Field(gt=0.0, le=100.0)]


class RuleConfig(Section):
    """What is done with the items that are named, or that have one of the categories or brands."""

    do: Literal["pin", "boost", "bury", "hide"]
    items: tuple[Name, ...] = ()
    categories: tuple[Name, ...] = ()
    brands: tuple[Name, ...] = ()
    scenes: tuple[Name, ...] = ()  # where it holds; everywhere where none is named
    slot: Positive | None = None  # pin: the place in the feed, from 1
    factor: Factor | None = None  # boost: of the relevance; below 1 it lowers

    @model_validator(mode="after")
    def _names_what_it_is_about(self) -> RuleConfig:
        if not (self.items or self.categories or self.brands):
            raise ValueError("name `items`, `categories` or `brands` that the rule is about")
        if self.do == "pin" and (len(self.items) != 1 or self.categories or self.brands):
            raise ValueError("a pin is about one item: name it in `items`, and no categories or brands")
        for only, key in (("pin", "slot"), ("boost", "factor")):
            if (self.do == only) != (getattr(self, key) is not None):
                raise ValueError(f"`{key}` belongs to a rule that does `{only}`, and must stand there")
        return self

    def holds_in(self, scene: str | None) -> bool:
        """Whether the rule is about this scene."""
        return not self.scenes or scene in self.scenes


class CapConfig(Section):
    """At most so many items of a category."""

    category: Name = EACH_CATEGORY
    most: Positive
    window: Positive | None = None  # slots in a row that it holds for; the whole slate where absent


class DiversityConfig(Section):
    """How a slate is spread."""

    method: Literal["none", "mmr", "dpp"] = "none"
    strength: Probability = 0.3  # 0 goes by relevance alone


class FreshnessConfig(Section):
    """What being new is worth."""

    weight: Weight = 0.0  # a new item's relevance is multiplied by 1 + weight
    half_life_days: Annotated[float, Field(gt=0.0)] = 14.0


class ExplorationConfig(Section):
    """Slots for candidates that the ranking would not show."""

    share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    first_slot: Positive = 2  # from 1; above it nothing is explored
    new_items: Annotated[int, Field(ge=0, le=MAX_CANDIDATES)] = 20  # newest items that may be drawn too


class RerankingConfig(Section):
    """The whole."""

    candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 100  # that a slate is made of, once anything is asked
    diversity: DiversityConfig = DiversityConfig()
    freshness: FreshnessConfig = FreshnessConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    caps: tuple[CapConfig, ...] = ()
    rules: tuple[RuleConfig, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether anything is asked."""
        spread = self.diversity.method != "none" and self.diversity.strength > 0
        return bool(spread or self.freshness.weight or self.exploration.share or self.caps or self.rules)

    @model_validator(mode="after")
    def _pins_have_slots_of_their_own(self) -> RerankingConfig:
        pins = [one for one in self.rules if one.do == "pin"]
        for place, one in enumerate(pins):
            for other in pins[:place]:
                together = not one.scenes or not other.scenes or set(one.scenes) & set(other.scenes)
                if together and (one.slot == other.slot or one.items == other.items):
                    raise ValueError(
                        f"{other.items[0]!r} is pinned to slot {other.slot} and {one.items[0]!r} to slot {one.slot} "
                        "in the same scene; give each item one slot, and each slot one item"
                    )
        return self
