"""The whole request over HTTP: filters on every rung, boosts, scrolls, batches, explanations, rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from asterism.core import parts
from asterism.core.bundle import BundleWriter
from asterism.stores.exposure_log import LocalExposureLog
from serving.running import Server, ids, wait_until
from serving.small_market import (
    DELAY_FILE,
    ITEM_IDS,
    ITEMS_PER_CATEGORY,
    SOLD_OUT,
    category_of,
    histories_table,
    item_vectors,
    items_table,
    write_bundle,
)

PRICES = {one: 5.0 + place for place, one in enumerate(ITEM_IDS)}
JSON = {"content-type": "application/json"}


def pages(server: Server, user_id: str, count: int, **more: Any) -> Iterator[list[str]]:
    cursor = None
    while True:
        answer = server.recommend(user_id, count=count, **more, **({"cursor": cursor} if cursor else {}))
        yield ids(answer)
        cursor = answer["cursor"]
        if cursor is None:
            return


@pytest.mark.parametrize("user", ["u1", "a newcomer"])
@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"categories": ["books"]}, lambda one: category_of(one) == "books"),
        ({"categories": ["books", "tents"]}, lambda one: category_of(one) in {"books", "tents"}),
        ({"min_price": 20, "max_price": 30.5}, lambda one: 20 <= PRICES[one] <= 30.5),
        ({"categories": ["mugs"], "max_price": 22}, lambda one: category_of(one) == "mugs" and PRICES[one] <= 22),
        ({"allow": ["mugs-03", "tents-01", SOLD_OUT, "no such item"]}, lambda one: one in {"mugs-03", "tents-01"}),
        ({"deny": ITEM_IDS[:50]}, lambda one: one in ITEM_IDS[50:]),
    ],
)
def test_filters_hold_on_every_rung_and_lose_nothing(server: Server, user: str, filters: Any, passes: Any) -> None:
    seen = {row["item_id"] for row in histories_table().to_pylist() if row["user_id"] == user}
    answer = server.recommend(user, count=100, filters=filters)
    assert set(ids(answer)) == {one for one in ITEM_IDS if passes(one)} - seen - {SOLD_OUT}


def test_filters_hold_when_the_model_is_late(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state", "--deadline-ms", "1000") as running:
        wait_until(lambda: running.recommend("u1", count=30)["source"] == "model")
        (tmp_path / DELAY_FILE).write_text("60")
        plain = running.recommend("u1", count=5, scene="another")
        held = running.recommend("u1", count=30, filters={"max_price": 21})
        assert (plain["source"], held["source"]) == ("stale", "stale")
        assert ids(held)
        assert all(PRICES[one] <= 21 for one in ids(held))
        (tmp_path / DELAY_FILE).unlink()


def test_a_boost_lifts_and_lowers(server: Server) -> None:
    plain = ids(server.recommend("u2", count=10))
    last = plain[-1]
    lifted = server.recommend("u2", count=10, boosts=[{"items": [last], "factor": 50}], explain=True)
    assert ids(lifted) == [last, *plain[:-1]]
    assert lifted["items"][0]["weighed"]["boost"] == 50
    lowered = ids(server.recommend("u2", count=9, boosts=[{"items": [plain[0]], "factor": 0.01}]))
    assert lowered == plain[1:]


@pytest.mark.parametrize("user", ["u4", "somebody who scrolls"])
def test_a_scroll_shows_each_item_once_and_ends(server: Server, user: str) -> None:
    seen = {row["item_id"] for row in histories_table().to_pylist() if row["user_id"] == user}
    found = list(pages(server, user, 8))
    shown = [one for page in found for one in page]
    assert len(shown) == len(set(shown))
    assert set(shown) == set(ITEM_IDS) - seen - {SOLD_OUT}
    assert [len(page) for page in found[:-1]] == [8] * (len(found) - 1)


@pytest.mark.parametrize("user", ["u4", "somebody who scrolls"])
@pytest.mark.parametrize("more", [{}, {"boosts": [{"categories": ["tents"], "factor": 2}]}, {"explain": True}])
def test_the_page_that_holds_the_last_item_leads_nowhere(server: Server, user: str, more: dict[str, Any]) -> None:
    all_there_is = len(ids(server.recommend(user, count=100)))
    assert server.recommend(user, count=all_there_is, **more)["cursor"] is None
    first = server.recommend(user, count=all_there_is - 1, **more)
    last = server.recommend(user, count=1, cursor=first["cursor"], **more)
    assert (len(ids(last)), last["cursor"]) == (1, None)


def test_a_scroll_goes_on_after_a_restart(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running:
        first = running.recommend("u1", count=10)
    with Server(bundle, tmp_path / "state") as running:
        second = running.recommend("u1", count=10, cursor=first["cursor"])
    assert not set(ids(first)) & set(ids(second))
    assert len(ids(second)) == 10


def test_an_explanation_tells_source_codes_and_weights(server: Server) -> None:
    for place, one in enumerate(server.recommend("u0", count=5, explain=True)["items"], start=1):
        assert one["source"] == "model"
        assert one["semantic_id"][0] == 0
        assert one["score"] is not None
        relevance = pytest.approx(1 / np.log2(1 + place))
        assert one["weighed"] == {"place": place, "relevance": relevance, "boost": 1.0, "freshness": 1.0}
    plain = server.recommend("u0", count=5)["items"]
    assert {one["weighed"] for one in plain} == {None}
    assert {(one["propensity"], one["explored"]) for one in plain} == {(1.0, False)}


def test_a_batch_answers_each_request_by_itself(server: Server) -> None:
    asked = [
        {"user_id": "u1", "count": 3},
        {"cursor": "forged"},
        {"user_id": "u2", "count": 4, "filters": {"categories": ["books"]}},
        {"filters": {"categories": ["boosk"]}},
    ]
    answers = server.http.post("/api/v1/recommend/batch", json={"requests": asked}).json()["data"]["answers"]
    assert [one["code"] for one in answers] == [0, 20008, 0, 20001]
    assert ids(answers[0]["data"]) == ids(server.recommend("u1", count=3))
    assert ids(answers[2]["data"]) == ids(server.recommend("u2", count=4, filters={"categories": ["books"]}))
    assert answers[1]["data"] is None
    assert "no item has the category 'boosk'" in answers[3]["message"]


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ({"filters": {"categories": ["boosk"]}}, 20001, "no item has the category 'boosk'"),
        ({"boosts": [{"categories": ["boosk"], "factor": 2}]}, 20001, "no item has the category 'boosk'"),
        ({"filters": {"min_price": 9, "max_price": 3}}, 20001, "`filters`: no price lies between `min_price` 9 and"),
        ({"filters": {"min_price": -1}}, 20001, "`filters.min_price`: should be greater than or equal to 0"),
        ({"filters": {"max_price": "9"}}, 20001, "`filters.max_price`: should be a valid number"),
        ({"filters": {"allow": []}}, 20001, "`filters.allow`"),
        ({"filters": {"category": "books"}}, 20001, "`filters.category` is not a field"),
        ({"filters": []}, 20001, "`filters`"),
        ({"boosts": [{"items": ["a"]}]}, 20001, "`boosts.0.factor` is missing"),
        ({"boosts": [{"factor": 2}]}, 20001, "`boosts.0`: name `items`, `categories` or `brands`"),
        ({"boosts": [{"items": ["a"], "factor": 0}]}, 20001, "`boosts.0.factor`: should be greater than 0"),
        ({"boosts": [{"items": ["a"], "factor": 1}] * 21}, 20001, "`boosts`"),
        ({"context": {"device": ""}}, 20001, "`context.device`"),
        ({"context": {"weather": "rain"}}, 20001, "`context.weather` is not a field"),
        ({"cursor": 7}, 20001, "`cursor`"),
        ({"cursor": ""}, 20008, "garbled"),
        ({"cursor": "AAAA"}, 20008, "send the request again without one"),
        ({"cursor": "ü"}, 20008, "not one of ours"),
        ({"cursor": "A" * 100_000}, 20008, "longer than"),
    ],
)
def test_a_bad_request_is_explained(server: Server, body: dict[str, Any], code: int, sentence: str) -> None:
    answer = server.http.post("/api/v1/recommend", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert sentence in answer.json()["message"]


def test_a_bad_batch_is_explained(server: Server) -> None:
    for body, sentence in (
        ({"requests": []}, "`requests`"),
        ({"requests": [{}] * 101}, "`requests`"),
        ({"requests": [{}, {"count": 0}]}, "`requests.1.count`: should be greater than or equal to 1"),
        ({}, "`requests` is missing"),
    ):
        answer = server.http.post("/api/v1/recommend/batch", json=body).json()
        assert answer["code"] == 20001
        assert sentence in answer["message"]


def test_an_item_newer_than_the_bundle_is_like_nothing_and_that_is_said(server: Server) -> None:
    server.http.post("/admin/api/v1/items", json={"item_id": "newer", "title": "Newer"})
    answer = server.http.get("/api/v1/similar/newer").json()
    assert (answer["code"], "newer than the served bundle" in answer["message"]) == (20003, True)
    server.http.delete("/admin/api/v1/items/newer")


def test_similar_needs_neighbours_for_what_users_took(server: Server) -> None:
    for mode in ("collaborative", "hybrid"):
        answer = server.http.get("/api/v1/similar/mugs-00", params={"mode": mode}).json()
        assert (answer["code"], "keeps no neighbours" in answer["message"]) == (20001, True)
    assert server.http.get("/api/v1/similar/mugs-00", params={"mode": "magic"}).json()["code"] == 20001


RULES = """
[[rules]]
do = "pin"
items = ["tents-02"]
slot = 2
scenes = ["home"]

[[rules]]
do = "hide"
items = ["mugs-00", "mugs-01"]

[[caps]]
category = "mugs"
most = 3

[exploration]
share = 0.5
first_slot = 3
"""


@pytest.fixture(scope="module")
def arranged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with rules, over a bundle that knows what users took together."""
    folder = tmp_path_factory.mktemp("arranged")
    write_bundle(folder / "plain")
    writer = BundleWriter(folder / "bundle")
    pq.write_table(items_table(), writer.part(parts.ITEMS))
    pq.write_table(histories_table(), writer.part(parts.HISTORIES))
    save_file({"vectors": item_vectors()}, writer.part(parts.ITEM_VECTORS))
    save_file(neighbours(), writer.part(parts.NEIGHBOURS))
    writer.commit({"items": len(ITEM_IDS), "levels": 3, "dataset": "small market"})
    (folder / "rules.toml").write_text(RULES)
    with Server(folder / "bundle", folder / "state", "--reranking", str(folder / "rules.toml")) as running:
        yield running


def neighbours() -> dict[str, np.ndarray]:
    """After lamps-00 come tents-00 and, less, books-00; after nothing else anything."""
    places = [ITEM_IDS.index("tents-00"), ITEM_IDS.index("books-00")]
    offsets = np.array([0] + [2] * len(ITEM_IDS), dtype=np.int64)
    return {"offsets": offsets, "neighbours": np.array(places, np.int32), "weights": np.array([0.9, 0.4], np.float32)}


def test_rules_caps_and_exploration_are_served(arranged: Server) -> None:
    explored, slates = 0, 20
    for _ in range(slates):
        answer = arranged.recommend("u1", count=8, scene="home")
        items = answer["items"]
        assert (items[1]["item_id"], items[1]["source"]) == ("tents-02", "pinned")
        assert not {"mugs-00", "mugs-01"} & set(ids(answer))
        assert sum(category_of(one) == "mugs" for one in ids(answer)) <= 3
        assert answer["source"] == "model"
        assert not any(one["explored"] for one in items[:2])
        explored += sum(one["explored"] for one in items)
        for one in items[2:]:
            assert one["propensity"] == 0.5 or one["explored"] == (one["propensity"] < 0.5)
    assert 0 < explored < 8 * slates
    elsewhere = arranged.recommend("u1", count=8)
    assert {one["weighed"] for one in elsewhere["items"]} == {None}
    assert "pinned" not in {one["source"] for one in elsewhere["items"]}


def test_a_scroll_goes_on_behind_a_page_that_caps_left_short(arranged: Server) -> None:
    allow = [f"mugs-{number:02d}" for number in range(2, 10)]
    found = list(pages(arranged, "a fan of mugs", 5, filters={"allow": allow}))
    assert [len(page) for page in found] == [3, 3, 2]
    assert sorted(one for page in found for one in page) == allow


def test_asking_for_a_category_lifts_its_cap(arranged: Server) -> None:
    answer = arranged.recommend("u1", count=6, filters={"categories": ["mugs"]})
    assert {category_of(one) for one in ids(answer)} == {"mugs"}
    assert len(ids(answer)) == 6


def test_similar_by_what_users_took(arranged: Server) -> None:
    def similar(**more: object) -> list[tuple[str, float]]:
        answer = arranged.http.get("/api/v1/similar/lamps-00", params=more).json()["data"]
        return [(one["item_id"], one["similarity"]) for one in answer["items"]]

    assert similar(mode="collaborative") == [("tents-00", pytest.approx(0.9)), ("books-00", pytest.approx(0.4))]
    by_vector = [one for one, _ in similar(count=100)]
    fused = {one: 1 / (60 + place) for place, one in enumerate(by_vector, start=1)}
    for place, one in enumerate(("tents-00", "books-00"), start=1):
        fused[one] += 1 / (60 + place)
    expected = sorted(fused.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
    assert similar(mode="hybrid") == [(one, pytest.approx(value)) for one, value in expected]


def test_propensities_reach_the_disk(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "explore.toml").write_text("[exploration]\nshare = 0.3\n")
    with Server(bundle, tmp_path / "state", "--reranking", str(tmp_path / "explore.toml")) as running:
        answer = running.recommend("u1", count=ITEMS_PER_CATEGORY)
    log = LocalExposureLog(tmp_path / "state" / "exposures")
    (shown,) = log.replay()
    log.close()
    assert shown.propensities == tuple(one["propensity"] for one in answer["items"])
    assert 0.7 in shown.propensities
