"""How much a model can win on the simulated market: NDCG@10 of the truth, of popularity, of last-item transitions.

    python benchmarks/market_headroom.py [--users N] [--items N] [--days N] [--seed S]

The task is leave-one-out: each user's last engagement, ranked among all items not yet taken.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import fields

from asterism.data.market import Market, MarketConfig
from asterism.data.market.headroom import ndcg, target_ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("users", "items", "days", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(MarketConfig(), name))
    config = MarketConfig(**vars(parser.parse_args()))
    started = time.perf_counter()
    market = Market.generate(config)
    seconds = time.perf_counter() - started
    ranks = target_ranks(market)
    scores = {one.name: round(ndcg(getattr(ranks, one.name)), 4) for one in fields(ranks)}
    print(
        json.dumps(
            {
                "benchmark": "market_headroom",
                "users": config.users,
                "items": config.items,
                "days": config.days,
                "seed": config.seed,
                "rows": market.dataset().interactions.num_rows,
                "engagements": market.positives.events,
                "asked_users": len(ranks.oracle),
                "generate_seconds": round(seconds, 1),
                "ndcg_at_10": scores,
            }
        )
    )


if __name__ == "__main__":
    main()
