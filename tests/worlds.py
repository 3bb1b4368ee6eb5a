"""Tiny markets with known answers, and the public data sets as leave-one-out splits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from asterism.config.run import DataConfig, RunConfig, Section
from asterism.core.ids import IdMap
from asterism.core.records import ACTION_CODES
from asterism.data.sequences import Cases, Sequences
from asterism.data.split import Split

CLICK = ACTION_CODES["click"]


def sequences_of(rows: Sequence[Sequence[int]]) -> Sequences:
    """Rows of item indices as clicks, one a second."""
    lengths = [len(row) for row in rows]
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([item for row in rows for item in row], dtype=np.int32),
        timestamps=np.array([second for row in rows for second in range(len(row))], dtype=np.int64),
        actions=np.full(sum(lengths), CLICK, dtype=np.int8),
    )


def cases_of(histories: Sequence[Sequence[int]], targets: Sequence[int]) -> Cases:
    """One case a user: after row u of `histories` comes item `targets[u]`."""
    return Cases(
        histories=sequences_of(histories),
        users=np.arange(len(targets), dtype=np.int32),
        targets=np.array(targets, dtype=np.int32),
        timestamps=np.array([len(history) for history in histories], dtype=np.int64),
        actions=np.full(len(targets), CLICK, dtype=np.int8),
    )


def leave_one_out(rows: Sequence[Sequence[int]], items: int) -> Split:
    """The last event of each row is its test target, the one before it the validation target."""
    if any(len(row) < 3 for row in rows):
        raise ValueError("leave-one-out needs three events a user")
    return Split(
        users=IdMap(f"user-{user}" for user in range(len(rows))),
        items=IdMap(f"item-{item}" for item in range(items)),
        train=sequences_of([row[:-2] for row in rows]),
        validation=cases_of([row[:-2] for row in rows], [row[-2] for row in rows]),
        test=cases_of([row[:-1] for row in rows], [row[-1] for row in rows]),
    )


def checkerboard(size: int = 20) -> Split:
    """`size` users and items; user u takes every item of u's parity, item u last.

    Known answer: with the history excluded, item u is the only item of u's parity that a test case lacks.
    """
    if size % 2 or size < 10:
        raise ValueError("the board needs an even side of at least ten squares")
    return leave_one_out([[(user + step) % size for step in range(2, size + 1, 2)] for user in range(size)], size)


def markov_chain(users: int = 60, items: int = 30, length: int = 8, seed: int = 0) -> Split:
    """Every item has one successor on a hidden ring through the whole catalogue; users start anywhere.

    Known answer: the successor of the newest item. Nothing repeats, as `length` is at most `items`.
    """
    ring = np.random.default_rng(seed).permutation(items)
    starts = np.arange(users) * items // users
    return leave_one_out([[int(ring[(start + step) % items]) for step in range(length)] for start in starts], items)


def everyone_ends_alike(users: int = 12) -> Split:
    """Item 0 is every user's first event and test target; item 1 every user's validation target; the rest is noise.

    Known answer: the most popular item. It stands in every history, so excluding histories makes it impossible.
    """
    return leave_one_out([[0, 2 + user, 1, 0] for user in range(users)], users + 2)


def half_cold(users: int = 10) -> Split:
    """Even users' test target was trained on by everyone; each odd user's test target is new to the world.

    Known answer: half of the test cases are cold; no list learned from training can hold their targets by merit.
    """
    rows = [[1, 0, 2, 0] if user % 2 == 0 else [0, 1, 2, 3 + user] for user in range(users)]
    return leave_one_out(rows, users + 3)


def random_market(users: int = 40, items: int = 25, seed: int = 0) -> Split:
    """Random sequences of 3 to 12 events with a few popular items and repeats: no known answer, for comparing twins."""
    rng = np.random.default_rng(seed)
    appeal = 1.0 / np.arange(1, items + 1)
    rows = [rng.choice(items, size=rng.integers(3, 13), p=appeal / appeal.sum()).tolist() for _ in range(users)]
    return leave_one_out(rows, items)


def public_split(folder: str) -> Split:
    """A public data set by leave-one-out; skips the test where ASTERISM_DATA has no such folder."""
    source = Path(os.environ.get("ASTERISM_DATA", "./data")) / folder
    if not (source / "interactions.parquet").is_file():
        pytest.skip(f"{source} is absent; set ASTERISM_DATA to the folder that holds {folder}")
    events = pq.read_table(source / "interactions.parquet", columns=["user_id", "item_id", "timestamp"])
    events = events.sort_by([("timestamp", "ascending")])
    items = IdMap(pq.read_table(source / "items.parquet", columns=["item_id"])["item_id"].to_pylist())
    rows: dict[str, list[int]] = {}
    for user, item in zip(events["user_id"].to_pylist(), items.encode(events["item_id"].to_pylist()), strict=True):
        rows.setdefault(user, []).append(int(item))
    split = leave_one_out(list(rows.values()), len(items))
    return Split(IdMap(rows), items, split.train, split.validation, split.test)


def run_config(**sections: Section) -> RunConfig:
    """A run configuration over nothing in particular, with the given sections."""
    return RunConfig(name="a world", data=DataConfig(path="nowhere"), **sections)  # type: ignore[arg-type]
