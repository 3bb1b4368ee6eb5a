"""A beam by compiled code is the beam by NumPy: items, log-probabilities and order."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from weakref import ReferenceType, ref

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from asterism.core.errors import ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding import Trie, beam, beam_search
from asterism.decoding.compiled import CompiledSearch, TrieAddresses, is_compiled
from asterism.decoding.snapshot import TrieSnapshot
from asterism.models.policy import read_histories
from decoding.random_worlds import RandomWorld, random_worlds
from decoding.table_policy import TablePolicy

pytestmark = pytest.mark.skipif(not is_compiled(), reason="no C++ compiler here")


def both(world: RandomWorld, scored: bool, constrained: bool) -> tuple[beam.Generated, beam.Generated]:
    trie = Trie.from_table(world.table)
    state = world.policy.encode(read_histories(world.policy, world.histories))
    widths = world.random.integers(1, 30, world.rows)
    asked = world.constraints(trie) if constrained else {}
    found = []
    for compiled in (True, False):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(beam, "is_compiled", lambda chosen=compiled: chosen)
            found.append(beam_search(world.policy, state, trie.snapshot(), widths, widths, **asked, scored=scored))
    return found[0], found[1]


@pytest.mark.parametrize("constrained", [False, True])
def test_the_beams_are_equal(constrained: bool) -> None:
    @settings(max_examples=120)
    @given(world=random_worlds(8))
    def held(world: RandomWorld) -> None:
        compiled, slow = both(world, True, constrained)
        np.testing.assert_array_equal(compiled.items.numpy(), slow.items.numpy())
        assert compiled.code_log_probs is not None
        assert slow.code_log_probs is not None
        np.testing.assert_array_equal(compiled.code_log_probs.numpy(), slow.code_log_probs.numpy())
        settled, of_numpy = both(world, False, constrained)
        np.testing.assert_array_equal(*(np.sort(one.items.numpy(), axis=1) for one in (settled, of_numpy)))

    held()


def test_a_score_that_is_no_number_is_an_error_that_names_the_row() -> None:
    table = SemanticIdTable(np.array([[0, 0], [1, 1]]), (2, 2))
    policy = TablePolicy((2, 2), 2, 0, coarse=False)
    state = torch.zeros(3, 4)

    class Broken(TablePolicy):
        def next_code_log_probs(self, state: torch.Tensor, prefixes: torch.Tensor) -> torch.Tensor:
            found = torch.zeros(len(state), prefixes.shape[1], 2)
            found[1] = torch.nan
            return found

    policy.__class__ = Broken
    with pytest.raises(ModelError, match="score of row 1 is not a number"):
        beam_search(policy, state, Trie.from_table(table).snapshot(), 2, 2)


def test_what_a_search_reads_lives_as_long_as_it_where_threads_share_a_new_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = np.unique(np.random.default_rng(0).integers(0, 8, (60, 3)), axis=0)
    view = Trie.from_table(SemanticIdTable(codes, (8, 8, 8))).snapshot()
    made: list[ReferenceType[TrieAddresses]] = []
    together, make = Barrier(2), TrieAddresses.__init__

    def make_together(one: TrieAddresses, of: TrieSnapshot) -> None:
        make(one, of)
        made.append(ref(one))
        together.wait(10)

    monkeypatch.setattr(TrieAddresses, "__init__", make_together)
    all_items = np.array([len(codes)])
    with ThreadPoolExecutor(2) as pool:
        searches = list(pool.map(lambda _: CompiledSearch(view, all_items, all_items, None, (), False), range(2)))
    gc.collect()
    assert [one() is not None for one in made] == [True, True]
    policy = TablePolicy((8, 8, 8), len(codes))
    for search in searches:
        assert sorted(search.run(policy, torch.zeros(1, 1), None).items[0].tolist()) == list(range(len(codes)))


def test_a_search_asks_nothing_once_all_that_is_left_is_the_answer() -> None:
    sizes = (256, 256, 256, 5)
    table = SemanticIdTable(np.array([[item, item, 7, item % 5] for item in range(40)]), sizes)
    view, policy = Trie.from_table(table).snapshot(), TablePolicy(sizes, 40)
    scored = beam_search(policy, torch.zeros(2, 1), view, 10, 10)
    assert [shape[2] for shape in policy.calls] == [0, 1, 2, 3]
    policy.calls.clear()
    found = beam_search(policy, torch.zeros(2, 1), view, 10, 10, scored=False)
    assert [shape[2] for shape in policy.calls] == [0, 1, 2]
    assert found.items.sort(dim=1).values.tolist() == scored.items.sort(dim=1).values.tolist()


def test_what_a_policy_or_a_caller_raises_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    table = SemanticIdTable(np.array([[0, 0], [1, 1]]), (2, 2))
    policy = TablePolicy((2, 2), 2)

    def fail(*_: object) -> bool:
        raise KeyboardInterrupt("stopped")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        beam_search(policy, torch.zeros(1, 1), Trie.from_table(table).snapshot(), 1, 1, wanted=fail)
    monkeypatch.setattr(policy, "next_code_log_probs", fail)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        beam_search(policy, torch.zeros(1, 1), Trie.from_table(table).snapshot(), 1, 1)


def test_a_search_leaves_nothing_behind_that_a_collection_would_have_to_find() -> None:
    table = SemanticIdTable(np.array([[0, 0], [1, 1]]), (2, 2))
    policy, trie = TablePolicy((2, 2), 2), Trie.from_table(table)
    view = trie.snapshot()
    gc.collect()
    gc.disable()
    try:
        beam_search(policy, torch.zeros(1, 1), view, 1, 1, wanted=lambda: True)
        assert gc.collect() == 0
    finally:
        gc.enable()
