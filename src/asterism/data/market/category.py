"""What the market sells or shows: two levels of categories with the words and colours of each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from asterism.core.records import Kind

_HUE_STEP = 0.045


@dataclass(frozen=True, slots=True)
class Category:
    """A category of the first level: who makes its items, in which styles, and how its covers look."""

    name: str
    kind: Kind
    partner: str  # the category whose items go with these
    motif: str  # of the drawn covers
    palette: tuple[str, ...]  # sky, ground, shape, light
    makers: tuple[str, ...]
    styles: tuple[str, ...]
    patterns: tuple[str, ...]  # of titles, over {maker}, {style} and {thing}


@dataclass(frozen=True, slots=True)
class Subcategory:
    """A category of the second level: its parent and the things in it."""

    name: str
    parent: Category
    things: tuple[str, ...]
    median_price: float | None  # None: free
    turn: float  # of the parent's hues on covers, so that siblings differ; a share of the circle


@cache
def subcategories() -> tuple[Subcategory, ...]:
    """All categories of the second level; siblings stand together."""
    raw = tomllib.loads(files(__package__).joinpath("vocabulary.toml").read_text(encoding="utf-8"))
    found: list[Subcategory] = []
    for one in raw["category"]:
        parent = _parent(one)
        siblings = one["subcategory"]
        for rank, sub in enumerate(siblings):
            turn = _HUE_STEP * (rank - (len(siblings) - 1) / 2)
            found.append(Subcategory(sub["name"], parent, tuple(sub["things"]), sub.get("median_price"), turn))
    return tuple(found)


def _parent(raw: dict[str, Any]) -> Category:
    lists = {name: tuple(raw[name]) for name in ("palette", "makers", "styles", "patterns")}
    return Category(name=raw["name"], kind=Kind(raw["kind"]), partner=raw["partner"], motif=raw["motif"], **lists)
