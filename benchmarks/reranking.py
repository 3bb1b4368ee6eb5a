"""Re-ranking: CPU time of each stage and of the whole, by the number of candidates; one JSON line at the end."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from asterism.config import RerankingConfig, parse_reranking_config
from asterism.serving.item_facts import Eligible, ItemFacts
from asterism.serving.recommendation import Boost, Recommended, Source
from asterism.serving.reranker import Ranked, Reranker, SlateRequest
from asterism.stores.catalogue import Item
from asterism.stores.vectors import ExactVectorIndex

ITEMS = 20_000
WIDTH = 256
CATEGORIES = 40
DAY = 86_400

#: One stage each, on top of what every slate costs (`order`), and all of them together.
STAGES = {
    "order": {},
    "rules": {
        "rules": [
            {"do": "boost", "categories": ["c1"], "factor": 1.5},
            {"do": "bury", "brands": ["b2"]},
            {"do": "hide", "items": ["i7"]},
            {"do": "pin", "items": ["i42"], "slot": 2},
        ]
    },
    "freshness": {"freshness": {"weight": 0.3}},
    "caps": {"caps": [{"most": 3, "window": 10}, {"category": "c1", "most": 4}]},
    "mmr": {"diversity": {"method": "mmr"}},
    "dpp": {"diversity": {"method": "dpp"}},
    "exploration": {"exploration": {"share": 0.1}},
}


def make_items(random: np.random.Generator) -> list[Item]:
    """A catalogue with two categories an item."""
    categories = random.integers(0, CATEGORIES, (ITEMS, 2))
    return [
        Item(
            f"i{row}", "", categories=(f"c{first}", f"c{second}"), brand=f"b{row % 50}", price=1.0, created_at=row * 900
        )
        for row, (first, second) in enumerate(categories.tolist())
    ]


def make_slates(reranker: Reranker, facts: ItemFacts, candidates: int, slots: int, repeats: int) -> list[float]:
    """Milliseconds of CPU time of each slate, of other candidates every time."""
    random = np.random.default_rng(1)
    boosts = (Boost(1.3, categories=frozenset({"c3"})),)
    taken = []
    for repeat in range(repeats):
        chosen = random.choice(ITEMS, candidates, replace=False).tolist()
        ranked = [Ranked(Recommended(f"i{one}", Source.MODEL, 1.0, (1, 2, 3)), 0) for one in chosen]
        asked = SlateRequest(slots, "home", boosts, frozenset(), 0, ITEMS * 900.0, repeat)
        eligible = Eligible(facts, None, None, frozenset(), frozenset())
        taken.append(milliseconds(partial(reranker.slate, ranked, eligible, asked)))
    return taken[repeats // 10 :]  # the first ones warm caches


def milliseconds(work: Callable[[], object]) -> float:
    started = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started) / 1e6


def quantiles(taken: list[float]) -> dict[str, float]:
    return {name: round(float(np.quantile(taken, at)), 3) for name, at in (("p50_ms", 0.5), ("p99_ms", 0.99))}


def configurations() -> dict[str, RerankingConfig]:
    """Each stage by itself, then all with either kind of diversity."""
    found = {name: parse_reranking_config({"candidates": 500, **one}) for name, one in STAGES.items()}
    rest = {key: value for name, one in STAGES.items() if name not in ("mmr", "dpp") for key, value in one.items()}
    for method in ("mmr", "dpp"):
        found[f"all with {method}"] = parse_reranking_config({"candidates": 500, **rest, **STAGES[method]})
    return found


def main() -> None:
    """Parse the arguments, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, nargs="*", default=[100, 500])
    parser.add_argument("--slots", type=int, nargs="*", default=[10, 20, 100])
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    facts = ItemFacts(make_items(random))
    vectors = ExactVectorIndex(facts.ids, random.normal(size=(ITEMS, WIDTH)).astype(np.float32))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, config in configurations().items():
        reranker = Reranker(config, facts, vectors)
        for candidates in arguments.candidates:
            for slots in arguments.slots:
                taken = make_slates(reranker, facts, candidates, slots, arguments.repeats)
                found.setdefault(f"{candidates} candidates, {slots} slots", {})[name] = quantiles(taken)
        print(name, {size: one[name] for size, one in found.items()}, file=sys.stderr)
    print(json.dumps({"benchmark": "reranking", "items": ITEMS, "width": WIDTH, **vars(arguments), "cpu_time": found}))


if __name__ == "__main__":
    main()
