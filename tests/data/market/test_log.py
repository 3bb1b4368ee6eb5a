"""What the log says: the contract's rules, the funnel, popularity, drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asterism.core.records import ACTIONS, POSITIVE_ACTIONS
from asterism.data.dataset import fingerprint
from asterism.data.market import Market, MarketConfig
from asterism.data.market.catalogue import describe_items
from asterism.data.market.config import DAY_SECONDS
from asterism.data.market.latent import draw_items

SMALL = {"users": 60, "items": 120, "days": 14}


@pytest.fixture(scope="module")
def rows(market: Market) -> dict[str, np.ndarray[Any, Any]]:
    table = market.dataset().interactions
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def gini(counts: np.ndarray[Any, Any]) -> float:
    ordered = np.sort(counts)
    return float(1 - 2 * (np.cumsum(ordered) / ordered.sum()).mean() + 1 / len(ordered))


def test_equal_seeds_write_equal_bytes_and_others_differ(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        Market.generate(MarketConfig(**SMALL, seed=seed)).dataset().save(tmp_path / name)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    other = fingerprint(tmp_path / "c")
    assert all(other[name] != value for name, value in fingerprint(tmp_path / "a").items())


def test_rows_are_sorted_by_user_and_time(rows: dict[str, np.ndarray[Any, Any]]) -> None:
    keys = list(zip(rows["user_id"].tolist(), rows["timestamp"].tolist(), strict=True))
    assert keys == sorted(keys)


def test_every_row_follows_the_contract(market: Market, rows: dict[str, np.ndarray[Any, Any]]) -> None:
    assert set(rows["action"]) <= {one.value for one in ACTIONS}
    assert set(rows["scene"]) == {"home", "search"}
    assert set(rows["device"]) <= {"phone", "desktop", "tablet"}
    assert set(rows["item_id"]) <= set(market.items.ids)
    stars = rows["value"][rows["action"] == "rating"]
    assert set(stars) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert set(rows["value"][rows["action"] == "impression"]) == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}
    assert (rows["value"][rows["action"] == "view"] >= 3.0).all()
    assert np.isnan(rows["value"][rows["action"] == "purchase"]).all()


def test_no_event_before_an_item_arrives_or_after_it_is_gone(
    market: Market, rows: dict[str, np.ndarray[Any, Any]]
) -> None:
    items = market.items.encode(rows["item_id"].tolist())
    assert (rows["timestamp"] >= market.item_truth.created_at[items]).all()
    assert (rows["timestamp"] < market.item_truth.retired_at[items]).all()
    arrived = market.item_truth.created_at >= market.config.start_seconds
    assert 0.25 < arrived.mean() < 0.5
    assert np.isin(np.flatnonzero(arrived), items).mean() > 0.8  # new items are met, too


def test_a_visit_is_one_day_of_one_user(market: Market, rows: dict[str, np.ndarray[Any, Any]]) -> None:
    day = (rows["timestamp"] - market.config.start_seconds) // DAY_SECONDS
    assert day.min() >= 0
    assert day.max() < market.config.days
    seen: dict[str, tuple[str, int, str]] = {}
    for session, user, one, scene in zip(rows["session_id"], rows["user_id"], day, rows["scene"], strict=True):
        assert seen.setdefault(session, (user, one, scene)) == (user, one, scene)
    assert len(set(seen.values())) == len(seen)


def test_nobody_engages_twice_with_an_item_and_every_engagement_was_shown(
    rows: dict[str, np.ndarray[Any, Any]],
) -> None:
    positive = np.isin(rows["action"], [one.value for one in POSITIVE_ACTIONS])
    pairs = list(zip(rows["user_id"][positive], rows["item_id"][positive], strict=True))
    assert len(set(pairs)) == len(pairs)
    shown = rows["action"] == "impression"
    assert set(pairs) <= set(zip(rows["user_id"][shown], rows["item_id"][shown], strict=True))


def test_the_funnel_narrows(rows: dict[str, np.ndarray[Any, Any]]) -> None:
    count = {one.value: int((rows["action"] == one.value).sum()) for one in ACTIONS}
    assert min(count.values()) > 0
    assert count["impression"] > count["view"] > count["cart"] > 0
    assert count["view"] > count["purchase"]
    assert count["skip"] > count["dislike"]
    positive = sum(count[one.value] for one in POSITIVE_ACTIONS)
    assert 0.08 < positive / count["impression"] < 0.2


def test_popularity_is_skewed_but_does_not_rule(market: Market) -> None:
    counts = np.bincount(market.positives.items, minlength=len(market.items))
    assert 0.35 < gini(counts) < 0.6
    assert counts.max() / counts.sum() < 0.05


def test_gini_by_hand() -> None:
    assert gini(np.array([1, 1, 1, 1])) == pytest.approx(0.0)
    assert gini(np.array([0, 0, 0, 4])) == pytest.approx(0.75)


def second_self_share(market: Market) -> tuple[float, float]:
    """Mean excess of the second self's mixture over the first's on what users took: early, late."""
    events = market.positives
    user = np.repeat(np.arange(len(events)), events.lengths)
    sub = market.item_truth.subcategory[events.items]
    excess = market.user_truth.mixture_second[user, sub] - market.user_truth.mixture_first[user, sub]
    share = (events.timestamps - market.config.start_seconds) / (market.config.days * DAY_SECONDS)
    return float(excess[share < 1 / 3].mean()), float(excess[share > 2 / 3].mean())


def test_tastes_drift_in_the_log_and_only_where_drift_is_on(market: Market) -> None:
    early, late = second_self_share(market)
    assert late - early > 0.04
    still = Market.generate(MarketConfig(users=400, items=300, days=30, seed=7, drift=0.0))
    early, late = second_self_share(still)
    assert abs(late - early) < 0.02


def test_titles_differ_and_read_like_titles() -> None:
    tables = Market.generate(MarketConfig(users=2, items=4_000, days=7)).dataset()
    titles = tables.items["title"].to_pylist()
    assert len(set(titles)) == len(titles) == 4_000
    assert all(one[0].isupper() or one[0].isdigit() for one in titles)
    assert not any("{" in one or "  " in one for one in titles + tables.items["description"].to_pylist())
    assert not any(one.startswith(("A A", "A E", "A I")) for one in titles)
    assert sum("(No. " in one for one in titles) < 0.05 * len(titles)
    assert all(len(one) == 2 for one in tables.items["categories"].to_pylist())
    assert set(tables.items["kind"].to_pylist()) == {"product", "video", "article", "music", "movie"}


def test_titles_differ_even_where_the_words_run_out() -> None:
    config = MarketConfig(items=20_000)
    titles = describe_items(config, draw_items(config, np.random.default_rng(0))).titles
    assert len(set(titles)) == 20_000
    assert any(" (No. 2)" in one for one in titles)


def test_parts_of_a_series_share_a_stem_and_appear_in_order(market: Market) -> None:
    truth, titles = market.item_truth, market.dataset().items["title"].to_pylist()
    first = np.flatnonzero((truth.part == 1) & (truth.sequel >= 0))
    assert len(first) > 10
    for item in first:
        sequel = truth.sequel[item]
        assert titles[sequel].startswith(titles[item])
        assert truth.created_at[item] <= truth.created_at[sequel]
        assert truth.subcategory[item] == truth.subcategory[sequel]
