"""Each row of the ablation table changes what it says and nothing else; what the data cannot tell is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ablation.rows import DEFAULT, ROWS, Facts, Row, Times, Turned, changed, reason_to_skip, recipe_has
from asterism.config import RunConfig, parse_run_config

#: A recipe that no row repeats, so that each has something to change.
UNUSUAL = {
    "name": "unusual",
    "data": {"path": "nowhere"},
    "semantic_ids": {"levels": 6, "codes": 100},
    "model": {"width": 64, "blocks": 5, "heads": 8, "max_events": 30, "experts": 3, "expert_top_k": 3},
    "training": {"negatives": 1000, "temperature": 0.11},
    "decoding": {"choose_weights": True, "item_weight": 0.3, "code_weight": 0.3, "content_weight": 0.3},
}
#: Of the four ways to draw negatives the recipe must have one.
ALREADY = {
    "full softmax": {"training.negative_sampling"},
    "512 uniform negatives": {"training.negative_sampling"},
    "uniform negatives": {"training.negative_sampling"},
}
RICH = Facts(
    items=12_000,
    longest_history=300,
    different_actions=5,
    has_values=True,
    has_contexts=True,
    has_attributes=True,
    pairs=900,
)


@pytest.fixture(scope="module")
def recipe() -> RunConfig:
    return parse_run_config(UNUSUAL)


def flat(config: RunConfig) -> dict[str, Any]:
    raw = config.model_dump()
    inner = {f"{section}.{key}": value for section in raw for key, value in _items(raw[section])}
    return {**inner, "name": raw["name"], "seed": raw["seed"]}


def _items(section: Any) -> list[tuple[str, Any]]:
    return list(section.items()) if isinstance(section, dict) else []


def row(name: str) -> Row:
    return next(one for one in ROWS if one.name == name)


@pytest.mark.parametrize("one", ROWS, ids=[one.name for one in ROWS])
def test_a_row_changes_the_keys_that_it_names_and_no_other(one: Row, recipe: RunConfig) -> None:
    before = flat(recipe)
    config, made = changed(recipe, one)
    after = flat(config)
    differing = {key: value for key, value in after.items() if value != before[key]}
    assert set(differing) == set(one.change) - ALREADY.get(one.name, set())
    assert differing == made
    for key, value in made.items():
        if not isinstance(one.change[key], Turned | Times):
            assert value == one.change[key]


def test_names_are_unique_and_the_default_comes_first() -> None:
    names = [one.name for one in ROWS]
    assert names[0] == DEFAULT
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "key", "there"),
    [
        ("time gaps", "model.time_gaps", True),
        ("id vectors", "model.id_vectors", False),
        ("8 windows of older events", "model.summaries", 8),
        ("alignment", "training.alignment_weight", 0.1),
        ("weights chosen on validation", "decoding.choose_weights", False),
    ],
)
def test_what_is_turned_twice_is_as_before(name: str, key: str, there: object, recipe: RunConfig) -> None:
    once, made = changed(recipe, row(name))
    assert made == {key: there}
    assert changed(once, row(name))[0] == recipe


def test_widths_follow_the_recipe(recipe: RunConfig) -> None:
    assert changed(recipe, row("half the width"))[0].model.width == 32
    assert changed(recipe, row("double the width"))[0].model.width == 128


def test_rich_data_skip_only_what_the_recipe_has(recipe: RunConfig) -> None:
    reasons = {one.name: reason_to_skip(recipe, one, RICH) for one in ROWS}
    assert {name: why for name, why in reasons.items() if why} == {"uniform negatives": "this is what the recipe has"}


@pytest.mark.parametrize(
    ("name", "lack", "sentence"),
    [
        ("event actions", {"different_actions": 1}, "all training events are of one kind of action"),
        ("event values", {"has_values": False}, "no training event has a value"),
        ("scene and device", {"has_contexts": False}, "the interactions have neither scene nor device"),
        ("user attributes", {"has_attributes": False}, "there is no users table with shared attributes"),
        ("preference", {"pairs": 0}, "no user did more for one item than for another within half an hour"),
        (
            "8 windows of older events",
            {"longest_history": 30},
            "no history is longer than the 30 events that are read one by one",
        ),
        ("100 events read", {"longest_history": 30}, "no history is longer than 30 events"),
        ("5 events read", {"longest_history": 5}, "no history is longer than 5 events"),
        ("mixed negatives, logQ", {"items": 1000}, "the item loss takes the whole catalogue of 1,000 items"),
        ("full softmax", {"items": 1000}, "the item loss takes the whole catalogue of 1,000 items"),
    ],
)
def test_a_row_that_the_data_cannot_tell_says_why(
    name: str, lack: dict[str, Any], sentence: str, recipe: RunConfig
) -> None:
    poor = replace(RICH, **lack)
    assert reason_to_skip(recipe, row(name), poor) == sentence
    assert reason_to_skip(recipe, row(name), RICH) is None


def test_fewer_negatives_than_a_small_catalogue_are_still_told(recipe: RunConfig) -> None:
    assert reason_to_skip(recipe, row("512 uniform negatives"), replace(RICH, items=1000)) is None
    assert reason_to_skip(recipe, row("512 uniform negatives"), replace(RICH, items=500)) is not None


def test_a_change_that_does_not_fit_the_recipe_is_told_in_its_own_words() -> None:
    narrow = parse_run_config({**UNUSUAL, "model": {"width": 6, "heads": 2}})
    why = reason_to_skip(narrow, row("4 heads"), RICH)
    assert why is not None
    assert "'4 heads'" in why
    assert "cannot be shared by 4 `heads`" in why


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (DEFAULT, "–"),
        ("time gaps", "off"),
        ("content", "on"),
        ("alignment", "off"),
        ("8 windows of older events", "off"),
        ("1 block", "5"),
        ("ordered by codes alone", "on, 0.3"),
    ],
)
def test_the_table_tells_what_the_recipe_has(name: str, told: str, recipe: RunConfig) -> None:
    assert recipe_has(recipe, row(name)) == told
