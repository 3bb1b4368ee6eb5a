"""Imports ten million interactions from CSV and from Parquet, each in a fresh process; one JSON line at the end."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

USERS, ITEMS = 500_000, 100_000
FIRST_SECOND, SECONDS = 1_600_000_000, 50_000_000


def make_interactions(rows: int, seed: int) -> pa.Table:
    """A log in order of time, with skewed users and items."""
    random = np.random.default_rng(seed)
    users = (USERS * random.random(rows) ** 2).astype(np.int64)
    items = (ITEMS * random.random(rows) ** 3).astype(np.int64)
    return pa.table(
        {
            "user_id": pa.array([f"user-{one}" for one in range(USERS)]).take(pa.array(users)),
            "item_id": pa.array([f"item-{one}" for one in range(ITEMS)]).take(pa.array(items)),
            "timestamp": np.sort(FIRST_SECOND + random.integers(0, SECONDS, rows)),
            "action": pa.array(["click", "view", "cart", "purchase"]).take(pa.array(random.integers(0, 4, rows))),
            "value": random.integers(1, 11, rows) / 2,
        }
    )


def make_items() -> pa.Table:
    """A catalogue of all items."""
    numbers = range(ITEMS)
    return pa.table({"item_id": [f"item-{one}" for one in numbers], "title": [f"Item {one}" for one in numbers]})


def import_once(interactions: Path, items: Path, output: Path) -> None:
    """Run in the fresh process: import, and print what it cost."""
    from asterism.data.importing import import_dataset
    from asterism.data.readers.detection import read_files
    from asterism.data.rejects import Rejects

    start = time.perf_counter()
    imported = import_dataset(read_files(interactions, items, None), Rejects("stop"))
    imported.dataset.save(output)
    seconds = time.perf_counter() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": imported.dataset.interactions.num_rows, "seconds": seconds, "peak_rss_mb": peak_mb}))


def measure(interactions: Path, items: Path, output: Path) -> dict[str, float]:
    """Import in a fresh process."""
    command = [sys.executable, __file__, "--once", str(interactions), str(items), str(output)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "seconds": round(result["seconds"], 1),
        "rows_per_second": round(result["rows"] / result["seconds"]),
        "peak_rss_mb": round(result["peak_rss_mb"]),
    }


def main() -> None:
    """Parse the arguments, make the files, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--once", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        import_once(*arguments.once)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        interactions = make_interactions(arguments.rows, arguments.seed)
        pacsv.write_csv(interactions, folder / "interactions.csv")
        pq.write_table(interactions, folder / "interactions.parquet")
        pq.write_table(make_items(), folder / "items.parquet")
        del interactions
        report = {
            kind: measure(folder / f"interactions.{kind}", folder / "items.parquet", folder / f"from-{kind}")
            for kind in ("csv", "parquet")
        }
    print(json.dumps({"benchmark": "data_import", "rows": arguments.rows, "seed": arguments.seed, **report}))


if __name__ == "__main__":
    main()
