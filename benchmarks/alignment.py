"""What alignment is worth: NDCG@10 of bundles before and after, and on the simulated market the true expected reward.

    python benchmarks/alignment.py --bundle runs/office-0 runs/office-1 --method dpo grpo [--config run.toml]
    python benchmarks/alignment.py --bundle demo/bundle --market demo/market --method dpo grpo feedback

`feedback` is GRPO whose rewards, and whose validation, are drawn reactions of the market's users to what they would be
shown, instead of the log. Aligned bundles go to a
temporary folder; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asterism.config import AlignmentConfig, load_run_config
from asterism.core.bundle import Bundle
from asterism.core.progress import track
from asterism.data.market import Market
from asterism.data.market.response import OUTCOMES
from asterism.data.preferences import ACTION_VALUES
from asterism.data.sequences import Cases
from asterism.data.split import Split
from asterism.data.splits import split_dataset
from asterism.decoding.bundle_data import data_of_bundle
from asterism.decoding.loading import TrainedRecommender, load_recommender
from asterism.evaluation.beyond_accuracy import beyond_accuracy
from asterism.evaluation.metrics import ndcg, target_ranks
from asterism.evaluation.ranking import item_counts
from asterism.evaluation.significance import compare_paired
from asterism.training.alignment.pipeline import Worth, align_bundle
from asterism.training.alignment.questions import Questions, newest_questions
from asterism.training.alignment.rewards import Drawn, Reward, variety_rewards

LIST_LENGTH = 10
SAMPLES = 1_000
VALUES = {one: float(ACTION_VALUES[one]) for one in OUTCOMES}  # a click 1, a purchase 3


def main() -> None:
    asked = _arguments()
    torch.set_num_threads(1)
    market = None if asked.market is None else Market.load(asked.market)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for place, bundle in enumerate(asked.bundle):
            for method in asked.method:
                target = Path(folder) / f"{place}-{method}"
                rows.append(measure(bundle, target, method, asked, market))
                print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps({"benchmark": "alignment", "rows": rows}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, nargs="+", required=True, help="where to start from")
    parser.add_argument("--method", nargs="+", choices=("dpo", "grpo", "feedback"), default=["dpo", "grpo"])
    parser.add_argument("--config", type=Path, help="a run's TOML file whose [alignment] holds instead of the bundle's")
    parser.add_argument("--data", type=Path, help="the data's folder, if it is no longer where training saw it")
    parser.add_argument("--market", type=Path, help="the market's folder, where the data are simulated")
    parser.add_argument("--users", type=int, default=600, help="of the market whose expected reward is taken")
    return parser.parse_args()


def measure(start: Path, target: Path, method: str, asked: argparse.Namespace, market: Market | None) -> dict[str, Any]:
    """Align one bundle by one method, and compare what both recommend."""
    before = load_recommender(Bundle.open(start))
    split = split_dataset(data_of_bundle(before.bundle, before.config.data, asked.data), before.config.data)
    alignment = before.config.alignment if asked.config is None else load_run_config(asked.config).alignment
    reward, worth = None, None
    if method == "feedback":
        if market is None:
            sys.exit("feedback needs --market, whose users give it")
        worth = users_reactions(market, split, before.config.seed)
        questions = newest_questions(split.train, alignment.newest)
        reward = users_feedback(market, split, questions, before, alignment.rewards.variety)
    chosen = AlignmentConfig.model_validate(
        alignment.model_dump() | {"method": "grpo" if method == "feedback" else method}
    )
    began = time.process_time()
    done = align_bundle(start, target, chosen, data=asked.data, reward=reward, worth=worth)
    assert done is not None  # one process
    _, result = done
    row: dict[str, Any] = {
        "bundle": start.name,
        "method": method,
        "seed": before.config.seed,
        "improved": result.improved,
        "steps": [result.best_step, result.steps],
        f"validation_{result.measure.lower()}": [round(result.start_validation, 5), round(result.best_validation, 5)],
        "cpu_seconds": round(time.process_time() - began),
    }
    after = load_recommender(Bundle.open(target))
    return row | compared(before, after, split, market, asked.users)


def compared(
    before: TrainedRecommender, after: TrainedRecommender, split: Split, market: Market | None, users: int
) -> dict[str, Any]:
    """Test NDCG@10, diversity and coverage of both, and their expected reward on a market."""
    lists = [
        one.generator.recommend(split.test.histories, LIST_LENGTH, exclude_history=True, progress=True).items
        for one in (before, after)
    ]
    old, new = (ndcg(target_ranks(one, split.test.targets), LIST_LENGTH) for one in lists)
    counts = item_counts(split.train, len(split.items))
    beyond = [beyond_accuracy(one, counts, before.item_vectors) for one in lists]
    gain = compare_paired(new, old, SAMPLES, seed=0)
    found: dict[str, Any] = {
        "test_ndcg_at_10": [round(float(one.mean()), 5) for one in (old, new)],
        "test_gain": [round(one, 5) for one in gain],
        "beyond_accuracy": [{key: round(float(value), 4) for key, value in one.items()} for one in beyond],
    }
    if market is not None:
        rewards = [expected_rewards(market, split, one, users) for one in lists]
        found["expected_reward"] = [round(float(one.mean()), 5) for one in rewards]
        found["reward_gain"] = [round(one, 5) for one in compare_paired(rewards[1], rewards[0], SAMPLES, seed=0)]
    return found


def expected_rewards(market: Market, split: Split, lists: np.ndarray[Any, Any], users: int) -> np.ndarray[Any, Any]:
    """What the first `users` test cases' slates are worth under the true behaviour, at the moment asked about."""
    cases = split.test
    rows = range(min(users, len(cases)))
    known = users_of(market, split)
    return np.array(
        [
            market.expected_reward(int(known[cases.users[row]]), lists[row], int(cases.timestamps[row]), weights=VALUES)
            for row in track(rows, "asking the truth")
        ]
    )


def users_of(market: Market, split: Split) -> np.ndarray[Any, Any]:
    """(users,) the market's index of each of the split's users; their items are in one order."""
    if list(market.items.ids) != list(split.items.ids):
        sys.exit("the market's items are not the bundle's; name the market that it was trained on")
    return np.asarray(market.users.encode(split.users.ids))


def users_reactions(market: Market, split: Split, seed: int) -> Worth:
    """What validation users do with their slates, positions considered: drawn, by the same chances each time."""
    worth = np.array([VALUES[one] for one in OUTCOMES] + [0.0])
    known = users_of(market, split)

    def reactions(cases: Cases, lists: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        chance = np.random.default_rng([seed, 8]).random((*lists.shape, 1))
        found = np.zeros(len(cases))
        for row, slate in enumerate(lists):
            user, at = int(known[cases.users[row]]), int(cases.timestamps[row])
            places = np.arange(1, len(slate) + 1)
            outcomes = market.outcome_probabilities(user, slate, at, positions=places)
            found[row] = worth[(np.cumsum(outcomes, axis=1) <= chance[row]).sum(axis=1)].sum()
        return found

    return reactions


def users_feedback(
    market: Market, split: Split, questions: Questions, before: TrainedRecommender, variety: float
) -> Reward:
    """What a user does with each item of a group, if they look at it: drawn, as a service would see it.

    `variety` is the weight of an item's unlikeness to the rest of its group, on top.
    """
    random = np.random.default_rng([before.config.seed, 7])
    vectors = torch.from_numpy(before.item_vectors).float()
    worth = np.array([VALUES[one] for one in OUTCOMES])
    cases, known = questions.cases, users_of(market, split)

    def reward(drawn: Drawn) -> Tensor:
        found = np.zeros(tuple(drawn.items.shape), dtype=np.float32)
        for place, row in enumerate(drawn.rows):
            items = drawn.items[place].numpy()
            user, at = int(known[cases.users[row]]), int(cases.timestamps[row])
            chances = np.cumsum(market.outcome_probabilities(user, items.clip(min=0), at), axis=1)
            outcome = (chances <= random.random((len(items), 1))).sum(axis=1)
            found[place] = np.where(items >= 0, np.append(worth, 0.0)[outcome], 0.0)
        return torch.from_numpy(found) + variety * variety_rewards(drawn.items, vectors)

    return reward


if __name__ == "__main__":
    main()
