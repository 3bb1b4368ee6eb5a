"""A real server, driven over HTTP: what a user sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asterism.stores.exposure_log import LocalExposureLog
from serving.running import Server, ids
from serving.small_market import CATEGORIES, ITEM_IDS, SOLD_OUT, category_of, histories_table, item_vectors


def history_of(user_id: str) -> set[str]:
    return {row["item_id"] for row in histories_table().to_pylist() if row["user_id"] == user_id}


def nearer_to(unwanted: str, than: tuple[str, ...]) -> set[str]:
    """Items whose vector lies nearer to one item's than to any of some others': one comparison at a time."""
    vectors = {item: row / np.linalg.norm(row) for item, row in zip(ITEM_IDS, item_vectors(), strict=True)}
    return {
        item
        for item, vector in vectors.items()
        if all(vector @ vectors[unwanted] > vector @ vectors[other] for other in than)
    }


def test_a_known_user_is_served_by_the_model_in_their_category(server: Server) -> None:
    answer = server.recommend("u1", count=8)
    assert answer["source"] == "model"
    assert {category_of(item) for item in ids(answer)} == {"mugs"}
    assert not set(ids(answer)) & history_of("u1")
    assert [item["score"] for item in answer["items"]] == sorted((i["score"] for i in answer["items"]), reverse=True)


def test_an_item_carries_what_a_page_shows(server: Server) -> None:
    first = server.recommend("u0", count=1, explain=True)["items"][0]
    place = ITEM_IDS.index(first["item_id"])
    assert first["semantic_id"] == [place // 15, place % 15, 0]
    assert first["semantic_id_text"] == f"<a_{place // 15}><b_{place % 15}><c_0>"
    assert (first["categories"], first["price"], first["source"]) == (["everything", "lamps"], 5.0 + place, "model")
    assert first["because"]["item_id"] in history_of("u0")
    assert first["because"]["similarity"] > 0.8


def test_a_click_changes_the_next_recommendation(server: Server) -> None:
    before = server.recommend("u2", count=10)
    server.feedback("u2", "tents-00", attribution_id=before["attribution_id"])
    after = server.recommend("u2", count=10)
    tents = [item for item in ids(after) if category_of(item) == "tents"]
    assert "tents-00" not in ids(after)
    assert tents, "the neighbours of the clicked item came up"
    assert not any(category_of(item) == "tents" for item in ids(before))


def test_a_clicked_and_a_disliked_item_are_gone(server: Server) -> None:
    first, second, *_ = ids(server.recommend("u3"))
    server.feedback("u3", first, "click")
    server.feedback("u3", second, "dislike")
    assert not {first, second} & set(ids(server.recommend("u3", count=60)))


@pytest.mark.parametrize("action", ["dislike", "skip"])
def test_what_lies_nearer_to_the_unwanted_than_to_the_wanted_comes_last(server: Server, action: str) -> None:
    user = f"after-{action}"
    for item in ("mugs-00", "tents-00"):
        server.feedback(user, item)
    before = ids(server.recommend(user, count=12))
    assert {category_of(item) for item in before} == {"mugs", "tents"}
    first_mug = next(item for item in before if category_of(item) == "mugs")
    server.feedback(user, first_mug, action)
    after = server.recommend(user, count=30)
    assert (after["source"], first_mug in ids(after)) == ("model", False)
    demoted = nearer_to(first_mug, than=("mugs-00", "tents-00")) & set(ids(after))
    assert demoted, "else this tests nothing"
    assert set(ids(after)[-len(demoted) :]) == demoted


def test_a_newcomer_gets_popular_items_and_after_a_click_the_model(server: Server) -> None:
    before = server.recommend("newcomer", count=10)
    assert before["source"] == "popular"
    assert len(set(map(category_of, ids(before)))) > 1
    server.feedback("newcomer", "books-03")
    after = server.recommend("newcomer", count=5)
    assert (after["source"], {category_of(item) for item in ids(after)}) == ("model", {"books"})


def test_an_anonymous_session_reacts_too(server: Server) -> None:
    def ask() -> dict[str, object]:
        body = {"session_id": "s-1", "count": 5}
        return dict(server.http.post("/api/v1/recommend", json=body).json()["data"])

    assert ask()["source"] == "popular"
    event = {"session_id": "s-1", "item_id": "tents-05", "action": "view"}
    assert server.http.post("/api/v1/feedback", json=event).json()["data"]["accepted"] == 1
    assert ask()["source"] == "model"
    assert server.recommend("s-1")["source"] == "popular", "a user of the same name is somebody else"


def test_nobody_in_particular_is_answered(server: Server) -> None:
    answer = server.http.post("/api/v1/recommend", json={}).json()
    assert (answer["data"]["source"], len(answer["data"]["items"])) == ("popular", 10)


def test_unavailable_excluded_and_seen_items_never_come(server: Server) -> None:
    excluded = [item for item in ITEM_IDS if category_of(item) == "books"]
    answer = server.recommend("u5", count=100, exclude=excluded)
    expected = set(ITEM_IDS) - set(excluded) - history_of("u5") - {SOLD_OUT}
    assert (set(ids(answer)), len(ids(answer))) == (expected, len(expected))


def test_nothing_left_is_an_empty_answer(server: Server) -> None:
    assert ids(server.recommend("u6", exclude=ITEM_IDS)) == []


def test_an_event_counts_once(server: Server) -> None:
    first = server.feedback("u7", "lamps-02", event_id="once")
    again = server.feedback("u7", "lamps-02", event_id="once")
    assert (first["accepted"], first["duplicates"]) == (1, 0)
    assert again == {"accepted": 0, "duplicates": 1, "events": [{"event_id": "once", "new": False}]}


def test_many_events_are_taken_together_or_not_at_all(server: Server) -> None:
    good = {"user_id": "u9", "item_id": "mugs-01", "event_id": "batch-1"}
    bad = {"user_id": "u9", "item_id": "no-such-item", "event_id": "batch-2"}
    refused = server.http.post("/api/v1/feedback", json={"events": [good, bad]})
    assert (refused.status_code, refused.json()["code"]) == (404, 20003)
    taken = server.http.post("/api/v1/feedback", json={"events": [good, {**good, "event_id": "batch-3"}]}).json()
    assert taken["data"] == {
        "accepted": 2,
        "duplicates": 0,
        "events": [{"event_id": "batch-1", "new": True}, {"event_id": "batch-3", "new": True}],
    }


def test_item_similar_and_profile(server: Server) -> None:
    item = server.http.get("/api/v1/item/lamps-01").json()["data"]
    assert (item["title"], item["available"], item["cover"]) == ("A star among lamps, no. 01", True, None)
    similar = server.http.get("/api/v1/similar/mugs-00", params={"count": 14}).json()["data"]
    assert {category_of(one) for one in ids(similar)} - {"mugs"} != {"mugs"}
    assert {category_of(one) for one in ids(similar)[:13]} == {"mugs"}
    assert SOLD_OUT not in ids(similar)
    profile = server.http.get("/api/v1/user/u11/profile").json()["data"]
    assert (profile["segment"], profile["events"]) == ("tents", 5)
    assert profile["interests"] == [{"category": "tents", "weight": 1.0}], "what every item is tells nothing"
    assert [one["timestamp"] for one in profile["recent"]] == [1004, 1003, 1002, 1001, 1000]


def test_sampled_users_have_histories(server: Server) -> None:
    users = server.http.get("/api/v1/users/sample", params={"limit": 4}).json()["data"]["users"]
    assert len(users) == 4
    assert users[0] == {"user_id": "u0", "events": 5, "interest": CATEGORIES[0]}


def test_a_cover_is_a_sandboxed_image(server: Server) -> None:
    item = server.http.get("/api/v1/item/lamps-00").json()["data"]
    cover = server.http.get(item["cover"])
    assert cover.headers["content-type"].startswith("image/svg+xml")
    assert cover.headers["x-content-type-options"] == "nosniff"
    policy = cover.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert server.http.get("/api/v1/item/lamps-01/cover").json()["code"] == 20003


def test_the_page_or_how_to_build_it(server: Server) -> None:
    page = server.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "Asterism" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]


def test_health_says_what_runs(server: Server) -> None:
    assert server.http.get("/healthz").json()["data"] == {"status": "live"}
    ready = server.http.get("/readyz").json()["data"]
    assert (ready["items"], ready["bundle_name"], ready["engine"]["ready"]) == (60, "bundle", True)
    assert ready["bundle_version"] == server.recommend("u0")["bundle_version"]


def test_exposures_reach_the_disk(bundle: Path, tmp_path: Path) -> None:
    with Server(bundle, tmp_path / "state") as running:
        answer = running.recommend("u1", count=3, scene="home")
    log = LocalExposureLog(tmp_path / "state" / "exposures")
    (shown,) = log.replay()
    log.close()
    assert (shown.attribution_id, list(shown.item_ids), shown.scene) == (answer["attribution_id"], ids(answer), "home")
