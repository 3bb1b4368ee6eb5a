"""Settings, rules and requests over a small catalogue: facts, rule book, re-ranker."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.config import RerankingConfig, parse_reranking_config
from asterism.core.errors import RequestError
from asterism.data.item_attributes import Predicate
from asterism.serving.item_facts import Eligible, ItemFacts
from asterism.serving.ladder import gathered
from asterism.serving.recommendation import Boost, Recommended, Source
from asterism.serving.reranker import Ranked, Reranker, SlateRequest
from asterism.stores.catalogue import Item
from asterism.stores.vectors import ExactVectorIndex

DAY = 86_400
NOW = 100.0 * DAY

#: Every item has the category "all"; a, b, c are lamps, d and e mugs, f nothing else.
ITEMS = [
    Item("a", "A", categories=("all", "lamps"), brand="Acme", price=1.0, created_at=100 * DAY),
    Item("b", "B", categories=("all", "lamps"), brand="Bolt", price=2.0, created_at=10 * DAY),
    Item("c", "C", categories=("all", "lamps"), price=3.0),
    Item("d", "D", categories=("all", "mugs"), brand="Acme", price=4.0, created_at=99 * DAY),
    Item("e", "E", categories=("all", "mugs")),
    Item("f", "F", categories=("all",), price=6.0),
]
FACTS = ItemFacts(ITEMS)
VECTORS = ExactVectorIndex(FACTS.ids, np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1], [0.7, 0.7]], np.float32))
ASKED = SlateRequest(4, "home", (), frozenset(), 0, NOW, 0)


def ranked(ids: str) -> list[Ranked]:
    return [Ranked(Recommended(one, Source.MODEL, 1.0), 0) for one in ids]


def eligible(**more: object) -> Eligible:
    return replace(Eligible(FACTS, None, None, frozenset(), frozenset()), **more)  # type: ignore[arg-type]


def slate(config: dict[str, object], ids: str = "abcdef", **more: object) -> list[Recommended]:
    reranker = Reranker(parse_reranking_config(config), FACTS, VECTORS)
    asked = replace(ASKED, **more)  # type: ignore[arg-type]
    return reranker.slate(ranked(ids), eligible(excluded=reranker.hidden(asked.scene)), asked)


def shown(config: dict[str, object], ids: str = "abcdef", **more: object) -> str:
    return "".join(one.item_id for one in slate(config, ids, **more))


def rule(do: str, **more: object) -> dict[str, object]:
    return {"rules": [{"do": do, **more}]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "abcd"),
        (rule("boost", items=["b"], factor=1.7), "bacd"),  # 1.7 / log2(3) > 1
        (rule("boost", categories=["mugs"], factor=2.4), "daeb"),  # 2.4 / log2(5) = 1.03, / log2(6) = 0.93
        (rule("boost", brands=["Acme"], factor=0.1), "bcef"),
        (rule("bury", categories=["lamps"]), "defa"),
        (rule("bury", items=["a", "b", "c", "d"]), "efab"),
        (rule("pin", items=["f"], slot=2), "afbc"),
        (rule("pin", items=["a"], slot=4), "bcda"),
        (rule("pin", items=["a"], slot=5), "abcd"),  # not on this page
        (rule("boost", items=["b"], factor=9.0, scenes=["search"]), "abcd"),
        (rule("boost", items=["b"], factor=9.0, scenes=["search", "home"]), "bacd"),
        ({"freshness": {"weight": 2.0, "half_life_days": 1.0}}, "adbc"),  # d: (1 + 2 / 2) / log2(5) = 0.86
        ({"caps": [{"most": 1}]}, "adf"),  # "all" is no cap's business, as every item has it
        ({"caps": [{"category": "lamps", "most": 1}]}, "adef"),
        ({"caps": [{"category": "all", "most": 2}]}, "ab"),
        ({"caps": [{"category": "lamps", "most": 1, "window": 2}]}, "adbe"),
        ({"diversity": {"method": "mmr", "strength": 0.6}}, "adfb"),
        (
            {"diversity": {"method": "dpp", "strength": 0.6}},
            "adbc",
        ),  # a and d span the plane, and the rest go by relevance
    ],
)
def test_each_setting_by_hand(config: dict[str, object], expected: str) -> None:
    assert shown(config) == expected


def test_hidden_items_are_no_candidates() -> None:
    reranker = Reranker(parse_reranking_config(rule("hide", brands=["Acme"], scenes=["home"])), FACTS, VECTORS)
    assert reranker.hidden("home") == {"a", "d"}
    assert reranker.hidden(None) == frozenset()


def test_boosts_of_a_request_multiply_with_those_of_rules() -> None:
    boosts = (Boost(1.3, brands=frozenset({"Bolt"})), Boost(1.3, items=frozenset({"b", "stranger"})))
    assert shown({}, boosts=boosts) == "bacd"
    assert shown(rule("boost", items=["b"], factor=0.45), boosts=boosts) == "acbd"
    first = slate({}, boosts=boosts)[0]
    assert first.weighed is not None
    assert (first.weighed.place, first.weighed.boost) == (2, pytest.approx(1.69))
    assert first.weighed.relevance == pytest.approx(1.69 / np.log2(3))


def test_a_pin_must_be_eligible_and_keeps_its_place_over_pages() -> None:
    config = parse_reranking_config(rule("pin", items=["f"], slot=6))
    reranker = Reranker(config, FACTS, VECTORS)
    second = reranker.slate(ranked("cdab"), eligible(), replace(ASKED, shown=4))
    assert [(one.item_id, one.source) for one in second][1] == ("f", Source.PINNED)
    gone = reranker.slate(ranked("cdab"), eligible(excluded={"f"}), replace(ASKED, shown=4))
    assert [one.item_id for one in gone] == ["c", "d", "a", "b"]


def test_caps_leave_out_what_the_request_asks_for() -> None:
    config = {"caps": [{"most": 1}, {"category": "lamps", "most": 1}]}
    assert shown(config, "abc", categories=frozenset({"lamps"})) == "abc"
    assert shown(config, "abcde", categories=frozenset({"lamps"})) == "abcd"


def test_exploration_draws_lower_ranks_and_the_newest_and_never_what_is_left_out() -> None:
    config = parse_reranking_config({"exploration": {"share": 0.5, "first_slot": 1, "new_items": 2}})
    reranker = Reranker(config, FACTS, VECTORS)
    drawn = set()
    for seed in range(200):
        candidates = [*ranked("efbc"), Ranked(Recommended("nowhere", Source.MODEL), 1, explorable=False)]
        found = reranker.slate(candidates, eligible(excluded={"a"}), replace(ASKED, count=2, seed=seed))
        drawn |= {(one.item_id, one.source.value) for one in found if one.explored}
        assert all(one.explored == (one.propensity < 0.5) for one in found)
    assert drawn == {("b", "model"), ("c", "model"), ("d", "new")}  # a is excluded; the others have no date


@given(
    ids=st.permutations("abcdef").flatmap(lambda order: st.integers(0, 6).map(lambda size: "".join(order[:size]))),
    count=st.integers(1, 6),
    diversity=st.sampled_from(["none", "mmr", "dpp"]),
    excluded=st.frozensets(st.sampled_from("abcdef")),
    highest=st.none() | st.floats(0, 7),
    seed=st.integers(0, 3),
)
def test_filters_never_leak(
    ids: str, count: int, diversity: str, excluded: frozenset[str], highest: float | None, seed: int
) -> None:
    config = {
        "diversity": {"method": diversity},
        "exploration": {"share": 0.5, "first_slot": 1},
        "rules": [{"do": "pin", "items": ["d"], "slot": 1}, {"do": "hide", "items": ["b"]}],
    }
    reranker = Reranker(parse_reranking_config(config), FACTS, VECTORS)
    wanted = None if highest is None else Predicate(highest_price=highest)
    may = eligible(wanted=wanted, excluded=excluded | reranker.hidden("home"))
    found = reranker.slate(gathered(ranked(ids), 6, may), may, replace(ASKED, count=count, seed=seed))
    prices = {item.item_id: item.price for item in ITEMS}
    for one in found:
        assert one.item_id not in excluded
        assert one.item_id != "b"
        assert highest is None or (prices[one.item_id] is not None and prices[one.item_id] <= highest)


def test_what_is_not_in_the_catalogue_is_ranked_too() -> None:
    config = {"caps": [{"most": 1}], "diversity": {"method": "dpp"}, "freshness": {"weight": 1.0}}
    reranker = Reranker(parse_reranking_config(config), FACTS, VECTORS)
    candidates = [Ranked(Recommended("stranger", Source.POPULAR), 0), *ranked("ab")]
    assert {one.item_id for one in reranker.slate(candidates, eligible(), ASKED)} == {"stranger", "a"}


def test_nothing_makes_an_empty_slate() -> None:
    for method in ("none", "mmr", "dpp"):
        assert slate({"diversity": {"method": method}, "caps": [{"most": 1}], "freshness": {"weight": 1.0}}, "") == []


def test_a_rule_about_strangers_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Reranker(parse_reranking_config(rule("bury", items=["a", "x"], categories=["lmaps"])), FACTS, VECTORS)
    assert [one.message for one in caplog.records] == [
        "rule 1 (bury): the catalogue has no such items: x",
        "rule 1 (bury): the catalogue has no such categories: lmaps",
    ]


def test_facts_by_hand() -> None:
    rows = np.array([3, -1, 0, 5])
    positions, categories = FACTS.category_pairs(rows)
    names = [FACTS.category_names[one] for one in categories.tolist()]
    assert list(zip(positions.tolist(), names, strict=True)) == [
        (0, "all"), (0, "mugs"), (2, "all"), (2, "lamps"), (3, "all")
    ]  # fmt: skip
    named = FACTS.named(rows, ["f", "stranger"], ["mugs", "none"], ["Bolt"])
    assert named.tolist() == [True, False, False, True]
    assert [FACTS.category_names[one] for one in FACTS.everywhere()] == ["all"]
    assert [FACTS.ids.id_of(one) for one in FACTS.newest.tolist()] == ["a", "d", "b"]
    with pytest.raises(RequestError, match="no item has the category 'lmaps'"):
        FACTS.check_categories(["lamps", "lmaps"])


def test_who_is_eligible_by_hand() -> None:
    cheap = eligible(wanted=Predicate(frozenset({"lamps"}), highest_price=2.0), unavailable={"a"})
    assert [one for one in "abcdefx" if one in cheap] == ["b"]
    assert cheap.few() == ["b"]
    assert eligible(allowed=frozenset("abx"), excluded={"a"}).few() == ["b"]
    assert eligible().few() is None


def test_few_are_listed_and_many_looked_for() -> None:
    facts = ItemFacts([Item(f"i{row}", "", categories=(("rare",) if row < 3 else ("common",))) for row in range(400)])
    rare, common = (
        Eligible(facts, Predicate(frozenset({name})), None, {"i1"}, frozenset()) for name in ("rare", "common")
    )
    assert rare.few() == ["i0", "i2"]
    assert common.few() is None


def test_the_default_changes_nothing() -> None:
    config = RerankingConfig()
    assert not config.is_active
    reranker = Reranker(config, FACTS, VECTORS)
    assert (reranker.candidates_for(7, ()), reranker.changes(())) == (7, False)
    assert reranker.candidates_for(7, (Boost(2.0, frozenset("a")),)) == 100
