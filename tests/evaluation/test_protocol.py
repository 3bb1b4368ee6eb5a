"""The whole protocol on worlds with known answers, its JSON, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from asterism.config import EvaluationConfig
from asterism.core.errors import DataError, ModelError
from asterism.data.sequences import Sequences
from asterism.evaluation.baselines import default_baselines, item_knn, markov, popularity
from asterism.evaluation.metrics import mean_metrics, target_ranks
from asterism.evaluation.protocol import collect_lists, evaluate
from asterism.evaluation.result import MODES, headline_cutoff
from worlds import cases_of, checkerboard, everyone_ends_alike, half_cold, markov_chain, random_market

CONFIG = EvaluationConfig(bootstrap_samples=200)


@dataclass
class Stubborn:
    """Gives every user the same list, whatever was asked."""

    items: list[int]
    name: str = "stubborn"
    asked: list[tuple[int, int, bool]] = field(default_factory=list)

    def recommend(self, histories: Sequences, k: int, exclude_history: bool) -> NDArray[np.int64]:
        self.asked.append((len(histories), k, exclude_history))
        padded = np.full(k, -1, dtype=np.int64)
        padded[: min(k, len(self.items))] = self.items[:k]
        return np.tile(padded, (len(histories), 1))


def test_the_checkerboard_is_solved_without_a_doubt() -> None:
    split = checkerboard()
    result = evaluate(item_knn(split.train, 20), split, "test", CONFIG, dataset="checkerboard")
    assert result.system.modes["metrics_history_excluded"].metrics["ndcg@1"] == 1.0
    assert result.system.modes["metrics_history_excluded"].intervals["ndcg@1"] == (1.0, 1.0)


def test_a_repeated_target_can_only_be_found_with_the_history() -> None:
    split = everyone_ends_alike()
    result = evaluate(popularity(split.train, 14), split, "test", CONFIG, dataset="alike")
    assert result.system.modes["metrics"].metrics["recall@1"] == 1.0
    assert result.system.modes["metrics_history_excluded"].metrics["recall@50"] == 0.0


def test_validation_asks_the_validation_cases() -> None:
    split = markov_chain()
    result = evaluate(markov(split.train, 30), split, "validation", CONFIG, dataset="chain")
    assert result.split == "validation"
    lists, _ = collect_lists(markov(split.train, 30), split.validation, 30, 50, exclude_history=False)
    expected = mean_metrics(target_ranks(lists, split.validation.targets), CONFIG.cutoffs)
    assert result.system.modes["metrics"].metrics == expected


def test_every_case_is_asked_once_a_mode_at_the_largest_cutoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asterism.evaluation.protocol.BATCH_CASES", 5)
    split = half_cold(12)
    system = Stubborn([])
    evaluate(system, split, "test", EvaluationConfig(cutoffs=(3, 1), bootstrap_samples=10), dataset="cold")
    assert system.asked == [
        (5, 3, False), (5, 3, False), (2, 3, False),
        (5, 3, True), (5, 3, True), (2, 3, True),
    ]  # fmt: skip


def test_batches_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    split = random_market(seed=5)
    whole = evaluate(item_knn(split.train, 25), split, "test", CONFIG, dataset="market").to_dict()
    monkeypatch.setattr("asterism.evaluation.protocol.BATCH_CASES", 7)
    parts = evaluate(item_knn(split.train, 25), split, "test", CONFIG, dataset="market").to_dict()
    for key in ("metrics", "metrics_history_excluded", "confidence_intervals", "beyond_accuracy", "slices"):
        assert parts[key] == whole[key]


def test_json_has_the_promised_shape() -> None:
    split = random_market(seed=4)
    baselines = default_baselines(split)[:2]
    vectors = np.random.default_rng(0).normal(size=(25, 3))
    result = evaluate(
        item_knn(split.train, 25), split, "test", CONFIG, vectors, seed=9, dataset="market", baselines=baselines
    )
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (found["dataset"], found["split"], found["users"], found["seed"]) == ("market", "test", 40, 9)
    for system in (found, *found["baselines"].values()):
        for mode in MODES:
            assert set(system[mode]) == {
                f"{name}@{k}" for name in ("recall", "hr", "ndcg", "mrr") for k in CONFIG.cutoffs
            }
            for name, (low, high) in system["confidence_intervals"][mode].items():
                assert low <= system[mode][name] <= high
            assert set(system["beyond_accuracy"][mode]) == {
                "coverage@10", "gini@10", "novelty@10", "long_tail_share@10", "diversity@10",
            }  # fmt: skip
            assert set(system["slices"][mode]) == {"history_length", "target_popularity", "cold_items"}
            assert system["seconds_per_1000_cases"][mode] > 0
        assert system["seconds"] > 0
    assert list(found["baselines"]) == list(found["comparisons"]) == ["popularity", "markov"]
    compared = found["comparisons"]["popularity"]["metrics"]["ndcg@10"]
    assert compared["difference"] == pytest.approx(
        found["metrics"]["ndcg@10"] - found["baselines"]["popularity"]["metrics"]["ndcg@10"]
    )


def test_the_seed_fixes_every_figure() -> None:
    split = random_market(seed=4)

    def figures(seed: int) -> dict[str, object]:
        return evaluate(popularity(split.train, 25), split, "test", CONFIG, seed=seed, dataset="m").to_dict()

    assert (
        figures(1)["confidence_intervals"] == figures(1)["confidence_intervals"] != figures(2)["confidence_intervals"]
    )


def test_a_slice_mean_weighted_by_its_cases_gives_the_whole() -> None:
    split = random_market(seed=8)
    measured = evaluate(item_knn(split.train, 25), split, "test", CONFIG, dataset="m").system.modes["metrics"]
    for group in ("history_length", "target_popularity", "cold_items"):
        filled = [one for one in measured.slices if one.group == group and one.cases]
        mean = sum(one.cases * one.metrics["ndcg@10"] for one in filled) / len(split.test)
        assert mean == pytest.approx(measured.metrics["ndcg@10"])


def test_cold_targets_are_not_found_by_what_learned_from_training() -> None:
    split = half_cold(10)
    config = EvaluationConfig(cutoffs=(3,), bootstrap_samples=10)
    measured = evaluate(popularity(split.train, 13), split, "test", config, dataset="cold").system.modes["metrics"]
    found = {one.label: one for one in measured.slices if one.group == "cold_items"}
    assert (found["never in training"].cases, found["never in training"].metrics["recall@3"]) == (5, 0.0)
    assert (found["seen in training"].cases, found["seen in training"].metrics["recall@3"]) == (5, 1.0)


def test_an_empty_slice_has_no_figures() -> None:
    split = checkerboard()
    measured = evaluate(popularity(split.train, 20), split, "test", CONFIG, dataset="board").system.modes["metrics"]
    empty = next(one for one in measured.slices if (one.group, one.label) == ("history_length", "50+"))
    assert (empty.cases, empty.metrics, empty.interval) == (0, {}, None)


def test_the_headline_is_at_ten_where_ten_is_measured() -> None:
    assert headline_cutoff((1, 10, 50)) == 10
    assert headline_cutoff((1, 20, 5)) == 20


def test_a_history_item_in_an_excluded_list_is_named() -> None:
    asked = cases_of([[0, 1], [2, 3], [4, 1]], targets=[5, 5, 5])
    split = dataclasses.replace(half_cold(4), test=asked)
    with pytest.raises(ModelError, match=r"case 1: item 3 is in the user's history, .* mend stubborn"):
        evaluate(Stubborn([6, 3]), split, "test", CONFIG, dataset="cold")


def test_broken_lists_are_named_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asterism.evaluation.protocol.BATCH_CASES", 2)

    class LateDuplicate(Stubborn):
        def recommend(self, histories: Sequences, k: int, exclude_history: bool) -> NDArray[np.int64]:
            lists = super().recommend(histories, k, exclude_history)
            if len(self.asked) == 3:
                lists[1, :2] = 6
            return lists

    with pytest.raises(ModelError, match="case 5: item 6 stands twice"):
        evaluate(LateDuplicate([7, 8]), half_cold(8), "test", CONFIG, dataset="cold")


def test_a_split_without_cases_is_refused() -> None:
    full = half_cold(4)
    empty = dataclasses.replace(full, test=full.test.take(np.array([], dtype=np.int64)))
    with pytest.raises(DataError, match="the test part of cold has no cases"):
        evaluate(popularity(full.train, 7), empty, "test", CONFIG, dataset="cold")


def test_the_training_part_cannot_be_asked() -> None:
    split = half_cold(4)
    with pytest.raises(ValueError, match="training part has no cases"):
        evaluate(popularity(split.train, 7), split, "train", CONFIG, dataset="cold")


def test_two_systems_of_one_name_are_refused() -> None:
    split = half_cold(4)
    one = popularity(split.train, 7)
    with pytest.raises(ModelError, match="two recommenders are called 'popularity'"):
        evaluate(one, split, "test", CONFIG, dataset="cold", baselines=[one])
