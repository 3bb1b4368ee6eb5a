"""Readers in other threads see all of a change or nothing of it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.beam import beam_search
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie import Trie
from decoding.table_policy import TablePolicy

READS = 25
PATIENCE_SECONDS = 60.0


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-3)
    yield
    sys.setswitchinterval(before)


def walk(view: TrieSnapshot) -> dict[tuple[int, ...], int]:
    """All paths, found level by level as a search finds them."""
    prefixes = np.zeros((1, 0), dtype=np.int64)
    for _ in view.layout.sizes:
        time.sleep(0.0001)  # lets the writer in
        positions, codes = np.nonzero(view.allowed(prefixes))
        prefixes = np.concatenate([prefixes[positions], codes[:, None]], axis=1)
    items = view.items_of(prefixes)
    return dict(zip(map(tuple, prefixes.tolist()), items.tolist(), strict=True))


def moving_table(sizes: tuple[int, ...]) -> tuple[SemanticIdTable, list[tuple[int, ...]]]:
    """64 items that never move, and as many places that one item after the other is moved to."""
    random = np.random.default_rng(0)
    paths = np.unique(np.stack([random.integers(0, min(size, 4), 4000) for size in sizes], axis=1), axis=0)
    chosen = random.permutation(paths)[:128]
    return SemanticIdTable(chosen[:64], sizes), [tuple(path) for path in chosen[64:].tolist()]


@pytest.mark.parametrize("sizes", [(256, 256, 256, 19), (8,) * 6, (256, 256, 300, 7)])
def test_a_snapshot_is_never_half_made(sizes: tuple[int, ...]) -> None:
    table, places = moving_table(sizes)
    fixed = {table.path_of(item): item for item in range(len(table))}
    trie = Trie.from_table(table)
    trie.insert(64, places[0])
    done = threading.Event()

    def write() -> int:
        """Item 64 goes from place to place: present at one place, or between two of them at none."""
        moves = 0
        while not done.is_set():
            moves += 1
            trie.remove(64)
            trie.insert(64, places[moves % len(places)])
        return moves

    def read() -> set[int]:
        versions: set[int] = set()
        end = time.monotonic() + PATIENCE_SECONDS
        reads = 0
        while reads < READS or (len(versions) <= READS // 2 and time.monotonic() < end):
            reads += 1
            view = trie.snapshot()
            versions.add(view.version)
            found = walk(view)
            moving = [path for path, item in found.items() if item == 64]
            assert {path: item for path, item in found.items() if item != 64} == fixed
            assert len(found) == len(view) == 64 + len(moving)
            assert moving == ([] if view.version % 2 == 0 else [places[(view.version - 1) // 2 % len(places)]])
        return versions

    with ThreadPoolExecutor(4) as pool:
        writer = pool.submit(write)
        readers = [pool.submit(read) for _ in range(3)]
        try:
            versions = set().union(*(reader.result() for reader in readers))
        finally:
            done.set()
        writer.result()
    assert len(versions) > READS // 2


def test_a_search_with_filters_sees_one_state() -> None:
    """Items 0 to 63 stay, one of 64 and 65 is always there or neither: a search never gives both, nor denied ones."""
    sizes = (256, 256, 256, 19)
    table, places = moving_table(sizes)
    policy = TablePolicy(sizes, 70)
    trie = Trie.from_table(table)
    even = ItemFilter.of_mask(np.arange(70) % 2 == 0, beyond=False)
    late = ItemFilter.allowing(range(60, 66))
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            item = 64 + number % 2
            trie.insert(item, places[number % len(places)])
            trie.remove(item)

    def read() -> int:
        seen = number = 0
        end = time.monotonic() + PATIENCE_SECONDS
        while number < READS or (seen == 0 and time.monotonic() < end):
            number += 1
            view = trie.snapshot()
            exclusions = Exclusions.of_pairs(view, np.array([0, 1, 1]), np.array([2, 61, 63]))
            state = torch.tensor([[float(number % 13)]]).expand(2, 1)
            found = beam_search(policy, state, view, 70, 70, exclusions, [even, late])
            rows = [[item for item in row if item >= 0] for row in found.items.tolist()]
            extra = np.flatnonzero(view.present[64:]) + 64
            assert sorted(rows[0]) == sorted({*range(0, 64, 2), *extra[extra % 2 == 0].tolist()} - {2})
            assert sorted(rows[1]) == sorted({60, 62, *extra.tolist()})
            seen += len(extra)
        return seen

    with ThreadPoolExecutor(3) as pool:
        writer = pool.submit(write)
        readers = [pool.submit(read) for _ in range(2)]
        try:
            seen = sum(reader.result() for reader in readers)
        finally:
            done.set()
        writer.result()
    assert seen > 0
