"""Beam search never leaves the trie, and as wide as the catalogue it is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.core.errors import ModelError, RequestError
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.beam import beam_search
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.exhaustive import all_log_probs
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.trie import Trie
from decoding.table_policy import TASTES, TablePolicy, random_table

SIZES = [(3, 4), (4, 300), (32, 32, 8), (3, 2, 3, 2), (256, 256, 256, 5), (256, 256, 300, 5), (2,) * 6]


def states(rows: int, seed: int = 0) -> Tensor:
    return torch.randint(TASTES, (rows, 1), generator=torch.Generator().manual_seed(seed)).float()


def random_exclusions(trie: TrieSnapshot, rows: int, share: float, seed: int) -> Exclusions:
    random = np.random.default_rng(seed)
    return Exclusions.of_pairs(trie, *np.nonzero(random.random((rows, trie.known_items)) < share))


def slow_best(scores: Tensor, gone: set[tuple[int, int]], count: int) -> list[list[int]]:
    best = []
    for row, of_row in enumerate(scores.tolist()):
        left = [item for item in range(len(of_row)) if (row, item) not in gone]
        top = sorted(left, key=lambda item: (-of_row[item], item))[:count]
        best.append(top + [-1] * (count - len(top)))
    return best


def test_log_probs_by_hand() -> None:
    policy = TablePolicy((2, 2), items=2)
    log_half, log_quarter = np.log(0.5), np.log(0.25)
    probabilities = [torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])]
    policy.of_taste = [one.log().expand(TASTES, -1) for one in probabilities]
    policy.of_prefix = [torch.zeros_like(one) for one in policy.of_prefix]
    trie = Trie.from_table(SemanticIdTable(np.array([[0, 0], [1, 1]]), (2, 2))).snapshot()
    found = beam_search(policy, states(1), trie, width=1, count=3)
    assert found.items.tolist() == [[1, 0, -1]]
    expected = [[np.log(0.75) + log_half, log_quarter + log_half, -np.inf]]
    np.testing.assert_allclose(found.code_log_probs.numpy(), expected, rtol=1e-6)


@settings(max_examples=120)
@given(
    sizes=st.sampled_from(SIZES),
    items=st.integers(1, 60),
    rows=st.integers(1, 5),
    count=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.2, 0.8, 1.0]),
    coarse=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_a_full_beam_is_exact(
    sizes: tuple[int, ...], items: int, rows: int, count: int, share: float, coarse: bool, seed: int
) -> None:
    table = random_table(sizes, items, seed)
    policy = TablePolicy(sizes, items, seed, coarse=coarse)
    trie, state = Trie.from_table(table).snapshot(), states(rows, seed)
    exclusions = random_exclusions(trie, rows, share, seed)
    found = beam_search(policy, state, trie, width=items, count=count, exclusions=exclusions)
    exact = all_log_probs(policy, state, table)
    gone = set(zip(exclusions.rows.tolist(), exclusions.items.tolist(), strict=True))
    assert found.items.tolist() == slow_best(exact, gone, count)
    padded = torch.cat([exact, torch.full((rows, 1), -torch.inf)], dim=1)
    assert torch.equal(found.code_log_probs, padded.gather(1, found.items % padded.shape[1]))


@settings(max_examples=80)
@given(
    sizes=st.sampled_from(SIZES),
    items=st.integers(1, 200),
    width=st.integers(1, 8),
    count=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.5, 0.95]),
    coarse=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_a_narrow_beam_keeps_its_promises(
    sizes: tuple[int, ...], items: int, width: int, count: int, share: float, coarse: bool, seed: int
) -> None:
    rows = 4
    table = random_table(sizes, items, seed)
    policy = TablePolicy(sizes, items, seed, coarse=coarse)
    trie, state = Trie.from_table(table).snapshot(), states(rows, seed)
    exclusions = random_exclusions(trie, rows, share, seed)
    found = beam_search(policy, state, trie, width, count, exclusions)
    exact = all_log_probs(policy, state, table)
    for row in range(rows):
        given_items = [item for item in found.items[row].tolist() if item >= 0]
        excluded = set(exclusions.items[exclusions.rows == row].tolist())
        assert len(given_items) == min(count, len(table) - len(excluded)) == len(set(given_items))
        assert not excluded & set(given_items)
        log_probs = found.code_log_probs[row, : len(given_items)]
        assert torch.equal(log_probs, exact[row, given_items])
        assert bool((log_probs.diff() <= 0).all())
        own = Exclusions(np.zeros(len(excluded), dtype=np.int64), np.array(sorted(excluded), dtype=np.int64))
        alone = beam_search(policy, state[row : row + 1], trie, width, count, own)
        assert torch.equal(alone.items[0], found.items[row])
        assert torch.equal(alone.code_log_probs[0], found.code_log_probs[row])


def greedy_trap() -> tuple[TablePolicy, Trie]:
    """Items 0 and 1 share the prefix that the policy prefers by far; item 2 stands apart."""
    table = SemanticIdTable(np.array([[0, 0], [0, 1], [1, 0]]), (2, 2))
    policy = TablePolicy((2, 2), items=3)
    policy.of_taste[0] = torch.tensor([[9.0, 0.0]]).expand(TASTES, -1)
    policy.of_prefix = [torch.zeros_like(one) for one in policy.of_prefix]
    return policy, Trie.from_table(table)


def excluding(trie: TrieSnapshot, *items: int) -> Exclusions:
    return Exclusions.of_pairs(trie, np.zeros(len(items), dtype=np.int64), np.array(items, dtype=np.int64))


def test_a_beam_does_not_walk_into_what_is_all_excluded() -> None:
    policy, trie = greedy_trap()
    for _ in range(2):
        view = trie.snapshot()
        found = beam_search(policy, states(1), view, width=1, count=1, exclusions=excluding(view, 0, 1))
        assert found.items.tolist() == [[2]]
        trie.set_present(1, False)


def test_a_row_with_nothing_left_is_all_padding() -> None:
    policy, trie = greedy_trap()
    view = trie.snapshot()
    found = beam_search(policy, states(2), view, width=1, count=2, exclusions=excluding(view, 0, 1, 2))
    assert found.items[0].tolist() == [-1, -1]
    assert found.items[1].tolist() in ([0, 1], [1, 0])
    alone = beam_search(policy, states(1), view, width=1, count=2, exclusions=excluding(view, 0, 1, 2))
    assert alone.items.tolist() == [[-1, -1]]
    assert alone.code_log_probs.tolist() == [[-np.inf, -np.inf]]


def test_equal_items_stand_in_order_of_index() -> None:
    table = random_table((4, 4, 4), items=40)
    policy = TablePolicy((4, 4, 4), items=40)
    policy.of_prefix = [torch.zeros_like(one) for one in policy.of_prefix]
    policy.of_taste = [torch.zeros_like(one) for one in policy.of_taste]
    found = beam_search(policy, states(2), Trie.from_table(table).snapshot(), width=64, count=7)
    assert found.items.tolist() == [list(range(7))] * 2


def test_an_empty_trie_is_an_error() -> None:
    with pytest.raises(ModelError, match="the trie holds no item"):
        beam_search(TablePolicy((2, 2), items=1), states(1), Trie((2, 2)).snapshot(), width=1, count=1)


def test_a_policy_that_rules_out_everything_is_an_error() -> None:
    policy, trie = greedy_trap()
    policy.of_taste[1] = torch.tensor([[-torch.inf, 0.0]]).expand(TASTES, -1)
    assert beam_search(policy, states(1), trie.snapshot(), width=3, count=3).items.tolist() == [[1, -1, -1]]
    with pytest.raises(ModelError, match=r"dead end at level 1 of row 0: .* to the items left"):
        beam_search(policy, states(1), trie.snapshot(), width=3, count=3, exclusions=excluding(trie.snapshot(), 1))


def test_not_a_number_is_an_error() -> None:
    policy, trie = greedy_trap()
    policy.of_taste[1] = torch.full((TASTES, 2), torch.nan)
    with pytest.raises(ModelError, match="row 0 is not a number"):
        beam_search(policy, states(1), trie.snapshot(), width=3, count=3)


def test_a_policy_of_other_codebooks_is_an_error() -> None:
    _, trie = greedy_trap()
    with pytest.raises(ModelError, match=r"shape \(1, 1, 3\) at level 0, not \(1, 1, 2\)"):
        beam_search(TablePolicy((3, 2), items=3), states(1), trie.snapshot(), width=3, count=3)


def test_the_policy_is_asked_for_no_more_beams_than_there_are() -> None:
    table = random_table((256, 256, 19), items=50)
    policy = TablePolicy((256, 256, 19), items=50)
    beam_search(policy, states(3), Trie.from_table(table).snapshot(), width=500, count=10)
    first = len(set(table.codes[:, 0].tolist()))
    assert policy.calls[:2] == [(3, 1, 0), (3, first, 1)]
    assert policy.calls[2][1] <= 50


@settings(max_examples=60)
@given(
    sizes=st.sampled_from(SIZES),
    items=st.integers(1, 120),
    asked=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12)), min_size=1, max_size=6),
    share=st.sampled_from([0.0, 0.5]),
    scored=st.booleans(),
    coarse=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_every_row_has_a_width_and_a_count_of_its_own(
    sizes: tuple[int, ...],
    items: int,
    asked: list[tuple[int, int]],
    share: float,
    scored: bool,
    coarse: bool,
    seed: int,
) -> None:
    rows = len(asked)
    policy = TablePolicy(sizes, items, seed, coarse=coarse)
    trie, state = Trie.from_table(random_table(sizes, items, seed)).snapshot(), states(rows, seed)
    exclusions = random_exclusions(trie, rows, share, seed)
    widths, counts = zip(*asked, strict=True)
    found = beam_search(policy, state, trie, widths, np.array(counts), exclusions, scored=scored)
    assert found.items.shape == (rows, max(counts))
    for row, (width, count) in enumerate(asked):
        own = exclusions.items[exclusions.rows == row]
        alone = beam_search(
            policy, state[row : row + 1], trie, width, count, Exclusions(np.zeros(len(own), dtype=np.int64), own)
        )
        whole, one = found.items[row].tolist(), alone.items[0].tolist()
        assert whole[:count] == one if scored else sorted(whole[:count]) == sorted(one)
        assert set(whole[count:]) <= {-1}
        if scored:
            assert torch.equal(found.code_log_probs[row, :count], alone.code_log_probs[0])


def test_senseless_widths_and_counts_are_refused() -> None:
    policy, trie = greedy_trap()
    for width, count, said in (
        (0, 1, "`width` is 0 in row 0; it must be at least 1"),
        ([2, 2, 2], 1, r"`width` has shape \(3,\) for 2 rows; give one for each, or one for all"),
        (1, [1, -4], "`count` is -4 in row 1"),
    ):
        with pytest.raises(RequestError, match=said):
            beam_search(policy, states(2), trie.snapshot(), width, count)
