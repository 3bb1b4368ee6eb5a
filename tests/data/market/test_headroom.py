"""There is much to learn, and popularity does not learn it."""

from __future__ import annotations

import numpy as np
import pytest

from asterism.data.market import Market, MarketConfig
from asterism.data.market.headroom import ndcg, target_ranks


def test_ndcg_by_hand() -> None:
    ranks = np.array([0, 2, 9, 10])
    assert ndcg(ranks) == pytest.approx((1 + 1 / 2 + 1 / np.log2(11) + 0) / 4)
    assert ndcg(ranks, cutoff=2) == pytest.approx(1 / 4)


def test_the_oracle_beats_popularity_many_times_and_cooccurrence_clearly() -> None:
    market = Market.generate(MarketConfig(users=800, items=600, days=45, seed=1))
    ranks = target_ranks(market)
    oracle, popularity, transition = (ndcg(one) for one in (ranks.oracle, ranks.popularity, ranks.transition))
    assert len(ranks.oracle) > 700
    assert oracle > 5 * popularity
    assert oracle > 1.3 * transition
    assert transition > 2 * popularity


def test_ranks_by_hand() -> None:
    """With one user there is no co-occurrence: unseen items are tied, and a tie counts half."""
    market = Market.generate(MarketConfig(users=1, items=100, days=60, seed=3))
    events = market.positives.events
    assert events >= 3
    ranks = target_ranks(market)
    free = 100 - (events - 1)
    assert ranks.popularity.tolist() == [(free - 1) // 2]
    assert ranks.transition.tolist() == [(free - 1) // 2]
