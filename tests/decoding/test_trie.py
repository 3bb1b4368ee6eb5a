"""The trie agrees with a dictionary of paths, whatever comes and goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import ModelError, UnknownIdError
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie import Trie
from decoding.slow_trie import SIZES, Paths, check_against
from decoding.table_policy import random_table


def crowded_table(sizes: tuple[int, ...], items: int, seed: int) -> SemanticIdTable:
    """Paths of few codes, so that many share a prefix on every level."""
    random = np.random.default_rng(seed)
    paths = np.stack([random.integers(0, min(size, 3), size=3 * items) for size in sizes], axis=1)
    paths[:, 0] += sizes[0] - min(sizes[0], 3)
    return SemanticIdTable(random.permutation(np.unique(paths, axis=0))[:items], sizes)


def paths_of(table: SemanticIdTable) -> Paths:
    return {table.path_of(item): item for item in range(len(table))}


@pytest.mark.parametrize("sizes", SIZES)
def test_a_table_becomes_a_trie(sizes: tuple[int, ...]) -> None:
    for make in (random_table, crowded_table):
        table = make(sizes, 200, 0)
        trie = Trie.from_table(table)
        assert trie.codebook_sizes == sizes
        assert trie.levels == len(sizes)
        check_against(trie.snapshot(), paths_of(table))


def test_three_items_by_hand() -> None:
    trie = Trie.from_table(SemanticIdTable(np.array([[0, 1, 0], [0, 1, 1], [2, 0, 0]]), (3, 2, 2)))
    assert trie.allowed(np.empty((1, 0), dtype=np.int64)).tolist() == [[True, False, True]]
    assert trie.allowed(np.array([[0], [1], [2]])).tolist() == [[False, True], [False, False], [True, False]]
    assert trie.allowed(np.array([[[0, 1]], [[2, 0]]])).tolist() == [[[True, True]], [[True, False]]]
    assert trie.items_of(np.array([[0, 1, 1], [2, 0, 0], [2, 0, 1], [1, 1, 1]])).tolist() == [1, 2, -1, -1]
    assert trie.items_of(np.array([[-1, 1, 1], [0, 2, 0]])).tolist() == [-1, -1]
    assert trie.snapshot().sole_items(np.array([[0], [1], [2]])).tolist() == [-1, -1, 2]


@settings(max_examples=100)
@given(
    data=st.data(),
    sizes=st.sampled_from(SIZES),
    crowded=st.booleans(),
    built=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_items_come_and_go_and_snapshots_stay(
    data: st.DataObject, sizes: tuple[int, ...], crowded: bool, built: bool, seed: int
) -> None:
    table = (crowded_table if crowded else random_table)(sizes, 24, seed)
    start = data.draw(st.integers(0, len(table))) if built else 0
    trie = Trie.from_table(SemanticIdTable(table.codes[:start], sizes)) if built else Trie(sizes)
    held = {table.path_of(item): item for item in range(start)}
    kept: list[tuple[TrieSnapshot, Paths]] = []
    for item in data.draw(st.lists(st.integers(0, len(table) - 1), max_size=40)):
        if data.draw(st.integers(0, 4)) == 0:
            kept.append((trie.snapshot(), dict(held)))
        path = table.path_of(item)
        if path in held:
            trie.remove(item)
            assert trie.path_of(item) == path
            del held[path]
        else:
            trie.insert(item, path)
            held[path] = item
    for view, paths in [*kept[-4:], (trie.snapshot(), held)]:
        check_against(view, paths, list(paths_of(table)), seed)


def test_memory_of_what_was_removed_is_used_again() -> None:
    table = random_table((256, 256, 256, 5), 400)
    trie = Trie.from_table(table)
    rounds = []
    for _ in range(30):
        for item in range(200):
            trie.remove(item)
        for item in range(200):
            trie.insert(item, table.path_of(item))
        rounds.append((trie._entries.used, trie._node_pages.arena.used, trie._item_pages.arena.used))
    assert rounds[-1] == rounds[1]
    check_against(trie.snapshot(), paths_of(table))


def test_memory_grows_while_snapshots_are_held_and_they_stay() -> None:
    table = random_table((256, 256, 256, 5), 300)
    trie = Trie.from_table(table)
    before = trie.bytes
    kept = []
    for number in range(10):
        kept.append(trie.snapshot())
        for item in range(0, 300, 2):
            trie.set_present(item, number % 2 == 1)
    assert trie.bytes > 2 * before
    whole = paths_of(table)
    odd = {path: item for path, item in whole.items() if item % 2}
    for number, view in enumerate(kept):
        check_against(view, odd if number % 2 else whole)


def test_more_changes_than_are_remembered() -> None:
    trie = Trie((4, 4, 4))
    for number in range(9000):
        trie.insert(number % 50, (number % 4, number // 4 % 4, 1))
        view = trie.snapshot()
        assert view.version == 2 * number + 1
        assert 4096 <= view.version - view.changed_since + 4096 <= 3 * 4096
        assert view.changed[view.version - view.changed_since - 1] == number % 4 * 4 + number // 4 % 4
        trie.remove(number % 50)


def test_a_new_item_may_have_a_new_index() -> None:
    trie = Trie((2, 2))
    trie.insert(7, (1, 0))
    assert (len(trie), trie.known_items) == (1, 8)
    assert trie.snapshot().present.tolist() == [False] * 7 + [True]
    assert int(trie.items_of(np.array([1, 0]))) == 7
    trie.insert(5000, (0, 0))
    assert np.flatnonzero(trie.snapshot().present).tolist() == [7, 5000]
    with pytest.raises(UnknownIdError, match="4999 was never in the trie of 5001 items"):
        trie.path_of(4999)


def test_a_path_freed_by_one_item_can_be_taken_by_another() -> None:
    trie = Trie.from_table(SemanticIdTable(np.array([[0, 1]]), (2, 2)))
    trie.remove(0)
    trie.insert(1, (0, 1))
    assert int(trie.items_of(np.array([0, 1]))) == 1
    with pytest.raises(ModelError, match="<a_0><b_1> of item index 0 is taken by item index 1"):
        trie.set_present(0, True)
    trie.insert(0, (1, 1))
    assert trie.path_of(0) == (1, 1)


@pytest.mark.parametrize(
    ("item", "path", "sentence"),
    [
        (0, (1, 1), "item index 0 is in the trie already"),
        (1, (0, 1), "taken by item index 0"),
        (1, (0, 2), "does not fit codebooks"),
        (1, (0, -1), "does not fit codebooks"),
        (1, (0,), "does not fit codebooks"),
        (-1, (1, 1), "negative"),
    ],
)
def test_an_illegal_insert_is_refused_and_changes_nothing(item: int, path: tuple[int, ...], sentence: str) -> None:
    trie = Trie.from_table(SemanticIdTable(np.array([[0, 1]]), (2, 2)))
    before = trie.snapshot()
    with pytest.raises(ModelError, match=sentence):
        trie.insert(item, path)
    assert trie.snapshot() is before
    check_against(before, {(0, 1): 0})


def test_removing_a_stranger_is_refused() -> None:
    trie = Trie.from_table(SemanticIdTable(np.array([[0, 1]]), (2, 2)))
    for item in (1, -1):
        with pytest.raises(UnknownIdError, match="is not in the trie"):
            trie.remove(item)
    trie.remove(0)
    with pytest.raises(UnknownIdError, match="item index 0 is not in the trie"):
        trie.remove(0)
    with pytest.raises(UnknownIdError, match="never"):
        trie.set_present(1, True)


def test_a_prefix_of_the_wrong_length_is_refused() -> None:
    trie = Trie((2, 2))
    with pytest.raises(ModelError, match="nothing follows a prefix of 2 codes"):
        trie.allowed(np.zeros((1, 2), dtype=np.int64))
    with pytest.raises(ModelError, match="longer than the trie's 2 levels"):
        trie.snapshot().sole_items(np.zeros((1, 3), dtype=np.int64))
    with pytest.raises(ModelError, match="a path has 2 codes, not 1"):
        trie.items_of(np.zeros((1, 1), dtype=np.int64))


def test_an_empty_trie_allows_nothing() -> None:
    for sizes in SIZES:
        check_against(Trie(sizes).snapshot(), {})
