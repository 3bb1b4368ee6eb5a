"""Facts of items that were changed are those of a catalogue that always was so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.core.errors import RequestError
from asterism.data.item_attributes import Predicate
from asterism.serving.item_facts import ItemFacts
from asterism.stores.catalogue import Item

CATEGORIES = ("home", "light", "mugs", "toys")
BRANDS = ("Lyra", "Swan", "Vega")
IDS = [f"i{number}" for number in range(6)]


@st.composite
def items_of(draw: st.DrawFn, item_id: str) -> Item:
    return Item(
        item_id,
        "",
        categories=tuple(draw(st.lists(st.sampled_from(CATEGORIES), max_size=3))),
        brand=draw(st.sampled_from([None, *BRANDS])),
        price=draw(st.sampled_from([None, 0.0, 5.0, 12.5])),
        created_at=draw(st.sampled_from([None, 1, 2, 3])),
    )


CATALOGUES = st.tuples(*(items_of(one) for one in IDS)).map(list)
CHANGES = st.lists(st.sampled_from([*IDS, "unknown"]).flatmap(items_of), max_size=8)


def told(facts: ItemFacts) -> dict[str, object]:
    """All that anybody asks of facts, by names."""
    rows = np.arange(-1, len(facts))
    positions, categories = facts.category_pairs(rows)
    found: dict[str, object] = {
        "categories": [(int(at), facts.category_names[code]) for at, code in zip(positions, categories, strict=True)],
        "everywhere": {facts.category_names[code] for code in facts.everywhere().tolist()},
        "newest": facts.newest.tolist(),
        "created_at": np.nan_to_num(facts.created_at, nan=-1.0).tolist(),
    }
    for name in CATEGORIES:
        found[f"named {name}"] = facts.named(rows, (), [name], ()).tolist()
        found[f"only {name}"] = facts.mask(Predicate(frozenset({name}))).tolist()
    for name in BRANDS:
        found[f"by {name}"] = facts.named(rows, (), (), [name]).tolist()
    for price in (0.0, 5.0, 12.5):
        found[f"from {price}"] = facts.mask(Predicate(frozenset(), price)).tolist()
        found[f"to {price}"] = facts.mask(Predicate(frozenset(), None, price)).tolist()
    return found


@given(CATALOGUES, st.lists(CHANGES, max_size=3))
def test_changed_facts_are_those_of_the_changed_catalogue(items: list[Item], rounds: list[list[Item]]) -> None:
    facts, now = ItemFacts(items), {item.item_id: item for item in items}
    before = told(facts)
    first = facts
    for changes in rounds:
        facts = facts.changed(changes)
        now |= {one.item_id: one for one in changes if one.item_id in now}
    assert told(facts) == told(ItemFacts(list(now.values())))
    assert told(first) == before, "they are never changed themselves"


def test_what_changes_nothing_is_the_same() -> None:
    items = [Item("a", "A", categories=("x",), brand="B", price=1.0), Item("b", "B", categories=("y", "x"))]
    facts = ItemFacts(items)
    assert facts.changed([Item("unknown", "")]) is facts
    assert facts.changed([replace(items[1], title="another")]).says_the_same(facts)
    assert not facts.changed([replace(items[1], price=2.0)]).says_the_same(facts)


def test_a_category_that_no_item_has_any_more_is_none() -> None:
    facts = ItemFacts([Item("a", "A", categories=("x",)), Item("b", "B", categories=("y",))])
    now = facts.changed([Item("a", "A", categories=("y",))])
    with pytest.raises(RequestError, match="no item has the category 'x'"):
        now.check_categories(["x"])
    assert now.mask(Predicate(frozenset({"x"}))).tolist() == [False, False]
    assert now.mask(Predicate(frozenset({"x", "y"}))).tolist() == [True, True]
    assert facts.mask(Predicate(frozenset({"x", "y", "z"}))).tolist() == [True, True]
