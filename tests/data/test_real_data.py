"""Public data sets in the contract's form, where they are at hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from asterism.data.locating import data_home, load_with_summary
from asterism.data.splits import by_column, by_time, leave_one_out

pytestmark = pytest.mark.real_data


def folder(name: str) -> Path:
    place = data_home() / name
    if not place.is_dir():
        pytest.skip(f"{place.absolute()} is absent; set ASTERISM_DATA to the folder that holds it")
    return place


@pytest.mark.parametrize(
    ("name", "users", "items", "events"),
    [
        ("amazon-beauty-2014", 22_363, 12_101, 198_502),
        ("amazon-toys-2014", 19_412, 11_924, 167_597),
        ("amazon-office-2014", 4_905, 2_420, 53_258),
        ("movielens-latest-small", 610, 9_742, 100_836),
        ("minionerec-industrial", 3_285, 3_686, 22_743),
    ],
)
def test_counts(name: str, users: int, items: int, events: int) -> None:
    imported = load_with_summary(folder(name))
    assert imported.dataset.interactions.num_rows == events
    assert imported.summary.unknown_items == 0
    split = leave_one_out(imported.dataset)
    assert (len(split.users), len(split.items), len(split.test)) == (users, items, users)
    assert split.train.events == events - 2 * users


def test_time_cuts_movielens() -> None:
    split = by_time(load_with_summary(folder("movielens-latest-small")).dataset, 0.1, 0.1)
    assert split.train.timestamps.max() < split.validation.timestamps.min()
    assert split.train.events == pytest.approx(0.8 * 100_836, abs=100)


def test_minionerec_poses_its_published_samples() -> None:
    place = folder("minionerec-industrial")
    split = by_column(load_with_summary(place).dataset)
    published = Counter(
        (row["split"], row["user_id"], tuple(row["history"]), row["target"])
        for row in pq.read_table(place / "eval_samples.parquet").to_pylist()
    )
    posed: Counter[tuple[str, str, tuple[str, ...], str]] = Counter()
    for name, cases in (("valid", split.validation), ("test", split.test)):
        recent = cases.histories.last(10)  # its samples show ten events at most
        for row in range(len(cases)):
            history = tuple(split.items.id_of(item) for item in recent.items[recent.row(row)].tolist())
            user, target = split.users.id_of(int(cases.users[row])), split.items.id_of(int(cases.targets[row]))
            posed[(name, user, history, target)] += 1
    assert (published & posed).total() >= published.total() - 1
