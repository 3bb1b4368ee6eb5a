"""The trie agrees with a set of paths, whatever comes and goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import ModelError, UnknownIdError
from asterism.core.semantic_id import SemanticId, SemanticIdTable
from asterism.decoding.trie import Trie
from decoding.table_policy import random_table

SIZES = [
    (2, 3),
    (8,) * 6,
    (32, 32, 8),
    (256, 256, 256, 19),
    (300, 5),
    (4, 1000, 3),
    (256, 256, 300, 7),
    (5, 4, 9, 17, 3),
]


def slow_allowed(paths: set[SemanticId], prefix: SemanticId, size: int) -> list[bool]:
    follow = {path[len(prefix)] for path in paths if path[: len(prefix)] == prefix}
    return [code in follow for code in range(size)]


def check_against_set(trie: Trie, paths: dict[SemanticId, int], seed: int = 0) -> None:
    """Ask about prefixes that are there, that were there, and that never were."""
    random = np.random.default_rng(seed)
    assert len(trie) == len(paths)
    for level, size in enumerate(trie.codebook_sizes):
        strangers = [tuple(int(random.integers(one)) for one in trie.codebook_sizes[:level]) for _ in range(6)]
        prefixes = [path[:level] for path in sorted(paths)[:20]] + strangers
        asked = np.array(prefixes, dtype=np.int64).reshape(1, len(prefixes), level)
        mask = trie.allowed(asked)
        assert mask.shape == (*asked.shape[:2], size)
        expected = [slow_allowed(set(paths), prefix, size) for prefix in prefixes]
        np.testing.assert_array_equal(mask.reshape(-1, size), expected)
    if paths:
        assert trie.items_of(np.array(list(paths))).tolist() == list(paths.values())


@pytest.mark.parametrize("sizes", SIZES)
def test_a_table_becomes_a_trie(sizes: tuple[int, ...]) -> None:
    table = random_table(sizes, items=200)
    trie = Trie.from_table(table)
    assert trie.codebook_sizes == sizes
    check_against_set(trie, {table.path_of(item): item for item in range(len(table))})


def test_three_items_by_hand() -> None:
    trie = Trie.from_table(SemanticIdTable(np.array([[0, 1, 0], [0, 1, 1], [2, 0, 0]]), (3, 2, 2)))
    assert trie.allowed(np.empty((1, 0), dtype=np.int64)).tolist() == [[True, False, True]]
    assert trie.allowed(np.array([[0], [1], [2]])).tolist() == [[False, True], [False, False], [True, False]]
    assert trie.allowed(np.array([[[0, 1]], [[2, 0]]])).tolist() == [[[True, True]], [[True, False]]]
    assert trie.items_of(np.array([[0, 1, 1], [2, 0, 0], [2, 0, 1], [1, 1, 1]])).tolist() == [1, 2, -1, -1]
    assert trie.items_of(np.array([[-1, 1, 1], [0, 2, 0]])).tolist() == [-1, -1]
    assert trie.subtree_sizes(0)[trie.item_slots(0, np.array([0, 1, 2]))].tolist() == [2, 2, 1]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), sizes=st.sampled_from(SIZES), seed=st.integers(0, 1000))
def test_items_come_and_go(data: st.DataObject, sizes: tuple[int, ...], seed: int) -> None:
    table = random_table(sizes, items=12, seed=seed)
    start = data.draw(st.integers(0, len(table)))
    trie = Trie.from_table(SemanticIdTable(table.codes[:start], sizes))
    held = {table.path_of(item): item for item in range(start)}
    for item in data.draw(st.lists(st.integers(0, len(table) - 1), max_size=20)):
        path = table.path_of(item)
        if path in held:
            trie.remove(item)
            assert trie.path_of(item) == path
            del held[path]
        else:
            trie.insert(item, path)
            held[path] = item
    check_against_set(trie, held, seed)


def test_a_trie_without_items_leaves_the_first_as_it_was() -> None:
    for sizes in SIZES:
        table = random_table(sizes, items=60)
        trie = Trie.from_table(table)
        twin = trie.without(np.array([0, 3, 3, 5]))
        twin.remove(1)
        whole = {table.path_of(item): item for item in range(len(table))}
        check_against_set(trie, whole)
        check_against_set(twin, {path: item for path, item in whole.items() if item not in {0, 1, 3, 5}})
        trie.remove(2)
        twin.insert(0, table.path_of(0))
        assert twin.present.tolist()[:6] == [True, False, True, False, len(table) > 4, False][: len(twin.present)]


def test_a_new_item_may_have_a_new_index() -> None:
    trie = Trie((2, 2))
    trie.insert(7, (1, 0))
    assert (len(trie), trie.known_items) == (1, 8)
    assert trie.present.tolist() == [False] * 7 + [True]
    assert int(trie.items_of(np.array([1, 0]))) == 7


def test_a_prefix_that_lost_its_items_has_no_slot() -> None:
    for sizes in ((3, 2), (300, 300)):
        trie = Trie.from_table(SemanticIdTable(np.array([[0, 1], [2, 0]]), sizes))
        trie.remove(0)
        assert (trie.slots_of(np.array([[0], [2]])) >= 0).tolist() == [False, True]
        assert int(trie.slots_of(np.array([0, 1]))) == -1
        trie.remove(1)
        assert int(trie.slots_of(np.empty(0, dtype=np.int64))) == -1


def test_a_path_freed_by_one_item_can_be_taken_by_another() -> None:
    trie = Trie.from_table(SemanticIdTable(np.array([[0, 1]]), (2, 2)))
    trie.remove(0)
    trie.insert(1, (0, 1))
    assert int(trie.items_of(np.array([0, 1]))) == 1
    with pytest.raises(ModelError, match="<a_0><b_1> of item index 0 is taken by item index 1"):
        trie.insert(0, trie.path_of(0))


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
    with pytest.raises(ModelError, match=sentence):
        trie.insert(item, path)
    check_against_set(trie, {(0, 1): 0})
    assert trie.known_items == 1


def test_removing_a_stranger_is_refused() -> None:
    trie = Trie.from_table(SemanticIdTable(np.array([[0, 1]]), (2, 2)))
    for item in (1, -1):
        with pytest.raises(UnknownIdError, match="is not in the trie"):
            trie.remove(item)
    trie.remove(0)
    with pytest.raises(UnknownIdError, match="item index 0 is not in the trie"):
        trie.remove(0)
    with pytest.raises(UnknownIdError, match="never"):
        trie.path_of(1)


def test_a_prefix_too_long_is_refused() -> None:
    trie = Trie((2, 2))
    with pytest.raises(ModelError, match="nothing follows a prefix of 2 codes"):
        trie.allowed(np.zeros((1, 2), dtype=np.int64))
    with pytest.raises(ModelError, match="longer than the trie's 2 levels"):
        trie.slots_of(np.zeros((1, 3), dtype=np.int64))


def test_an_empty_trie_allows_nothing() -> None:
    for sizes in SIZES:
        check_against_set(Trie(sizes), {})
