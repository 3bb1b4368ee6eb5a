"""The fingerprint follows the content and nothing else."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from asterism.data.dataset import Dataset
from asterism.data.fingerprinting import dataset_fingerprint


def make(titles: list[str | None], chunks: int = 1) -> Dataset:
    ids = [str(one) for one in range(len(titles))]
    columns = {
        "item_id": ids,
        "title": titles,
        "categories": pa.array([["a", "b"], [], None, ["ab"]][: len(titles)], pa.list_(pa.string())),
        "available": [True, None, False, True][: len(titles)],
    }
    items = pa.table(columns)
    if chunks > 1:
        items = pa.concat_tables([items.slice(0, 1), items.slice(1)])
    interactions = pa.table({"user_id": ids, "item_id": ids, "timestamp": range(len(ids))})
    return Dataset(interactions, items)


TITLES: list[str | None] = ["x", None, "", "yz"]


def test_chunks_and_column_order_do_not_count() -> None:
    one, other = make(TITLES), make(TITLES, chunks=2)
    assert dataset_fingerprint(one) == dataset_fingerprint(other)
    turned = Dataset(one.interactions, one.items.select(one.items.column_names[::-1]))
    assert dataset_fingerprint(one) == dataset_fingerprint(turned)


def test_every_change_counts() -> None:
    base = make(TITLES)
    changed = [
        make(["x", "", "", "yz"]),
        make([None, "x", "", "yz"]),
        make(["x", None, "", "y"]),
        make(["xy", None, "", "z"]),
        make(TITLES[:3]),
        Dataset(base.interactions.take([1, 0, 2, 3]), base.items),
        Dataset(base.interactions, base.items, users=pa.table({"user_id": ["0"]})),
        Dataset(base.interactions, base.items.rename_columns(["item_id", "name", "categories", "available"])),
        Dataset(
            base.interactions,
            base.items.set_column(2, "categories", pa.array([["a"], ["b"], None, ["ab"]], pa.list_(pa.string()))),
        ),
    ]
    prints = [dataset_fingerprint(one) for one in [base, *changed]]
    assert len(set(prints)) == len(prints)


def test_it_is_fast() -> None:
    numbers = np.arange(200_000)
    ids = pa.array(np.char.add("u", (numbers % 20_000).astype(str)))
    table = pa.table({"user_id": ids, "item_id": ids, "timestamp": numbers})
    took = []
    for _ in range(3):
        start = time.process_time()
        dataset_fingerprint(Dataset(table, table.select(["item_id"])))
        took.append(time.process_time() - start)
    assert min(took) < 2.0, "row by row it takes some twenty seconds"
