"""The baselines on public data land where they were seen to land."""

from __future__ import annotations

import pytest

from asterism.evaluation.baselines import default_baselines
from asterism.evaluation.metrics import mean_metrics, target_ranks
from asterism.evaluation.protocol import collect_lists
from worlds import public_split


@pytest.mark.real_data
@pytest.mark.slow
def test_baselines_on_amazon_beauty() -> None:
    split = public_split("amazon-beauty-2014")
    assert (len(split.users), len(split.items), split.train.events) == (22_363, 12_101, 198_502 - 2 * 22_363)
    ndcg = {}
    for one in default_baselines(split):
        lists, _ = collect_lists(one, split.test, len(split.items), 10, exclude_history=True)
        ndcg[one.name] = mean_metrics(target_ranks(lists, split.test.targets), (10,))["ndcg@10"]
    assert ndcg["popularity"] == pytest.approx(0.0054, abs=0.0002)
    assert ndcg["item_knn"] == pytest.approx(0.0422, abs=0.0005)
    assert ndcg["markov"] == pytest.approx(0.0439, abs=0.0005)
