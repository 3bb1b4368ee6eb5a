"""The answer key: what the market says must be what its people do."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from asterism.core.errors import DataError, StorageError, UnknownIdError
from asterism.core.records import POSITIVE_ACTIONS, Action
from asterism.data.market import History, Market
from asterism.data.market.config import DAY_SECONDS
from asterism.data.market.desire import Offer, Places, State, Wish
from asterism.data.market.response import OUTCOMES, examination, react
from asterism.data.market.simulation import exposure, relevance

PROFIT = {Action.CLICK: 1.0, Action.VIEW: 1.0, Action.CART: 3.0, Action.PURCHASE: 20.0}


@pytest.fixture(scope="module")
def noon(market: Market) -> int:
    """A moment in the middle of the period."""
    return market.config.start_seconds + 15 * DAY_SECONDS + DAY_SECONDS // 2


def busy_user(market: Market) -> int:
    return int(np.argsort(market.positives.lengths, kind="stable")[-20])


def test_examination_by_hand(market: Market) -> None:
    assert market.config.position_bias == 0.7
    assert examination(market.config, 3) == pytest.approx([1.0, 2**-0.7, 3**-0.7])


def test_attraction_by_hand(market: Market, noon: int) -> None:
    user, every = busy_user(market), np.arange(len(market.items))
    wish, wanted = market._wish_of(user, every, noon, None)
    item = int(np.argmax(wanted))
    score = -2.2 + 0.55 * np.log(300 * wanted[item] + 0.05)
    expected = 1 / (1 + np.exp(-score))
    assert market.click_probability(user, [item], noon)[0] == pytest.approx(expected)
    assert market.click_probability(user, [item], noon, positions=[4])[0] == pytest.approx(expected * 4**-0.7)
    assert wish.blend.sum() == pytest.approx(1.0)


def test_measured_position_bias_is_the_configured_one(market: Market) -> None:
    rng = np.random.default_rng(0)
    slates = rng.integers(len(market.items), size=(60_000, 5))
    reaction = react(market.config, market.item_truth, slates, np.full(slates.shape, 0.4), np.ones(60_000), rng)
    rates = reaction.clicked.mean(axis=0)
    slope = np.polyfit(np.log(np.arange(1, 6)), np.log(rates), 1)[0]
    assert slope == pytest.approx(-0.7, abs=0.02)
    assert rates[0] == pytest.approx(0.4, abs=0.01)


def test_the_log_was_made_by_the_truth(market: Market) -> None:
    """Clicks on logged slates against the probabilities asked afterwards: overall, by position, by taste."""
    table = market.dataset().interactions.to_pydict()
    taken = {
        (user, item): time
        for user, item, time, action in zip(
            table["user_id"], table["item_id"], table["timestamp"], table["action"], strict=True
        )
        if action in POSITIVE_ACTIONS
    }
    shown: dict[tuple[str, int], list[str]] = {}
    for user, item, time, action in zip(
        table["user_id"], table["item_id"], table["timestamp"], table["action"], strict=True
    ):
        if action == "impression":
            shown.setdefault((user, time), []).append(item)
    expected, clicked, place = [], [], []
    for (user, time), slate in list(shown.items())[::5][:1500]:
        positions = np.arange(1, len(slate) + 1)
        index, items = market.users.index_of(user), market.items.encode(slate)
        expected.append(market.click_probability(index, items, time, positions=positions))
        clicked.append([time < taken.get((user, item), -1) < time + 60 for item in slate])
        place.append(positions)
    p, y, where = np.concatenate(expected), np.concatenate(clicked), np.concatenate(place)
    assert len(p) > 5_000
    for group in (where > 0, *(where == one for one in range(1, 7)), p < 0.05, p > 0.3):
        deviation = (y[group].sum() - p[group].sum()) / np.sqrt((p[group] * (1 - p[group])).sum())
        assert abs(deviation) < 3.5
    edges = np.quantile(p, [0, 0.25, 0.5, 0.75, 1.0])
    rates = [y[(p >= low) & (p <= high)].mean() for low, high in pairwise(edges)]
    assert rates == sorted(rates)
    assert rates[-1] > 5 * rates[0]


def test_responses_come_as_often_as_their_probabilities_say(market: Market, noon: int) -> None:
    user, rng = busy_user(market), np.random.default_rng(5)
    slate = market.best_slate(user, 5, noon)
    past = market.history(user, noon)
    shares = market.outcome_probabilities(user, slate, noon, positions=np.arange(1, 6), history=past)
    counts: Counter[tuple[int, Action]] = Counter()
    rounds = 1_500
    for _ in range(rounds):
        counts.update((one.position, one.action) for one in market.respond(user, slate, rng, noon, history=past))
    for place in range(5):
        observed = [counts[place + 1, action] for action in OUTCOMES]
        nothing = rounds - sum(observed)
        expected = rounds * np.append(shares[place], 1 - shares[place].sum())
        large = expected > 5
        seen = np.append(observed, nothing)[large]
        assert stats.chisquare(seen, expected[large] * seen.sum() / expected[large].sum()).pvalue > 1e-3
        assert counts[place + 1, Action.IMPRESSION] == rounds


def test_purchase_is_a_part_of_click(market: Market, noon: int) -> None:
    every = np.arange(len(market.items))
    click = market.click_probability(3, every, noon)
    purchase = market.purchase_probability(3, every, noon)
    assert (purchase <= click).all()
    assert purchase.max() > 0
    free = np.isnan(market.item_truth.price)
    assert (purchase[free] == 0).all()
    assert market.outcome_probabilities(3, every, noon).sum(axis=1) == pytest.approx(click)


def test_expected_reward_is_the_mean_reward(market: Market, noon: int) -> None:
    user, rng = busy_user(market), np.random.default_rng(11)
    slate, past = market.best_slate(user, 6, noon), market.history(user, noon)
    rewards = [
        sum(PROFIT.get(one.action, 0.0) for one in market.respond(user, slate, rng, noon, history=past))
        for _ in range(1_500)
    ]
    error = np.std(rewards) / np.sqrt(len(rewards))
    truth = market.expected_reward(user, slate, noon, weights=PROFIT, history=past)
    assert abs(np.mean(rewards) - truth) < 3.5 * error


def test_the_best_slate_beats_every_other_order_and_logged_slates(market: Market, noon: int) -> None:
    user = busy_user(market)
    best = market.best_slate(user, 4, noon, weights=PROFIT)
    reward = market.expected_reward(user, best, noon, weights=PROFIT)
    orders = [market.expected_reward(user, list(one), noon, weights=PROFIT) for one in permutations(best.tolist())]
    assert reward == pytest.approx(max(orders))
    rng = np.random.default_rng(2)
    logged = [market.logged_slate(user, rng, noon)[:4] for _ in range(50)]
    assert reward > max(market.expected_reward(user, one, noon, weights=PROFIT) for one in logged)


def test_draws_follow_the_probabilities(market: Market, noon: int) -> None:
    """The quick sampler against the formula over all items, in every state a user can be in."""
    truth, config = market.item_truth, market.config
    places = Places(config, truth)
    for user in (busy_user(market), 5, 17):
        past = market.history(user, noon)
        today = np.zeros(len(past.items), dtype=bool)
        today[-2:] = True
        state = State.recall(truth, past.items, today)
        rows, days = np.array([user]), np.array([15])
        offer = Offer(places, places.popular_by_day(), market.user_truth, rows, days, np.zeros((1, len(truth)), bool))
        wish = Wish(offer, state, np.array([0]))
        blend = exposure(wish.blend, relevance(config, np.array([0])))
        every = np.arange(len(truth))[None]
        p = wish.probability(blend, every)[0]
        drawn = wish.draw(blend, 60_000, np.random.default_rng(3))[0]
        seen = np.bincount(drawn[drawn >= 0], minlength=len(truth))
        assert (seen[p == 0] == 0).all()
        likely = p * len(drawn) > 20
        score = (seen[likely] - p[likely] * len(drawn)) / np.sqrt(p[likely] * (1 - p[likely]) * len(drawn))
        assert np.abs(score).max() < 4.5
        assert (drawn >= 0).mean() == pytest.approx(p.sum(), abs=0.01)


def test_recall_is_the_sum_of_engagements(market: Market) -> None:
    items = market.positives.items[market.positives.row(busy_user(market))][:40].astype(np.int64)
    for count in range(1, 40, 3):
        state = State.fresh(1, len(market.items))
        for item in items[:count]:
            state.engage(market.item_truth, np.array([0]), np.array([item]))
        twin = State.recall(market.item_truth, items[:count], np.ones(count, dtype=bool))
        assert (state.last == twin.last).all()
        assert (state.theme == twin.theme).all()
        assert (state.resume == twin.resume).all()
        assert (state.taken == twin.taken).all()
        assert state.resume[0] < 0 or (state.resume_age == twin.resume_age).all()


def test_what_is_taken_gone_or_not_yet_there_is_not_clicked(market: Market, noon: int) -> None:
    user = busy_user(market)
    past = market.history(user, noon)
    assert (market.click_probability(user, past.items, noon) == 0).all()
    later = np.flatnonzero(market.item_truth.created_at > noon)
    assert (market.click_probability(user, later, noon) == 0).all()
    ideal = market.best_slate(user, 1_000, noon)
    assert not set(ideal) & (set(past.items) | set(later))


def test_a_response_moves_the_next_wish(market: Market, noon: int) -> None:
    user = busy_user(market)
    past = market.history(user, noon)
    truth = market.item_truth
    there = (truth.sequel >= 0) & (market.click_probability(user, truth.sequel.clip(0), noon, history=past) > 0)
    leader = int(np.flatnonzero(there & (truth.part == 1))[0])
    fresh = History(np.append(past.items, leader), np.append(past.timestamps, noon - DAY_SECONDS))
    sequel = truth.sequel[leader]
    before = market.click_probability(user, [sequel], noon, history=past)[0]
    after = market.click_probability(user, [sequel], noon, history=fresh)[0]
    assert after > 3 * before
    events = market.respond(user, market.best_slate(user, 6, noon), np.random.default_rng(0), noon, history=past)
    grown = market.after(past, events)
    assert len(grown.items) == len(past.items) + sum(one.action in POSITIVE_ACTIONS for one in events)


def test_the_next_distribution_is_one_and_knows_where_clicks_go(market: Market) -> None:
    """Expected and observed hits of the truth's five likeliest items agree."""
    expected, hits = [], []
    for user in range(300):
        row = market.positives.row(user)
        if row.stop - row.start < 3:
            continue
        target, at = market.positives.items[row.stop - 1], int(market.positives.timestamps[row.stop - 1])
        p = market.true_next_distribution(user, at)
        assert p.sum() == pytest.approx(1.0)
        top = np.argsort(-p)[:5]
        expected.append(p[top].sum())
        hits.append(target in top)
    assert np.mean(hits) == pytest.approx(np.mean(expected), abs=0.09)


def test_a_market_comes_back_from_disk_as_it_was(market: Market, noon: int, tmp_path: Path) -> None:
    market.save(tmp_path)
    back = Market.load(tmp_path)
    assert back.config == market.config
    assert back.dataset().interactions.equals(market.dataset().interactions)
    slate = market.best_slate(5, 6, noon)
    assert (back.best_slate(5, 6, noon) == slate).all()
    assert (back.true_next_distribution(5, noon) == market.true_next_distribution(5, noon)).all()
    one, two = (each.respond(5, slate, np.random.default_rng(1), noon) for each in (market, back))
    assert one == two
    assert back.cover(0) == market.cover(0)


def test_a_broken_folder_is_named(market: Market, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"truth\.json.*no such file"):
        Market.load(tmp_path)
    market.save(tmp_path)
    with pytest.raises(StorageError, match="choose another folder"):
        market.save(tmp_path / "truth.npz")
    (tmp_path / "truth.npz").write_bytes(b"PK broken")
    with pytest.raises(DataError, match="cannot be read"):
        Market.load(tmp_path)
    (tmp_path / "truth.json").write_text('{"format": 1, "config": {"userz": 3}}', encoding="utf-8")
    with pytest.raises(DataError, match=r"truth\.json.*cannot be read"):
        Market.load(tmp_path)


def test_a_truth_beside_other_tables_is_refused(market: Market, tmp_path: Path) -> None:
    market.save(tmp_path)
    tables = market.dataset()
    pq.write_table(tables.interactions.slice(1), tmp_path / "interactions.parquet")
    with pytest.raises(DataError, match="does not belong"):
        Market.load(tmp_path)


def test_strangers_are_refused(market: Market, noon: int) -> None:
    with pytest.raises(UnknownIdError, match="user index 400"):
        market.click_probability(400, [0], noon)
    with pytest.raises(UnknownIdError, match="item index 300"):
        market.click_probability(0, [300], noon)
    with pytest.raises(UnknownIdError, match="item index -1"):
        market.respond(0, [-1], np.random.default_rng(0), noon)
