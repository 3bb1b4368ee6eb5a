"""Groups differ by the penalty that is stated, share no item, and without a penalty are one beam search."""

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
from asterism.decoding.diverse import Groups, diverse_beam_search
from asterism.decoding.exclusion import Exclusions
from asterism.decoding.exhaustive import all_log_probs
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.trie import Trie
from decoding.table_policy import TASTES, TablePolicy, random_table

SIZES = [(3, 4), (4, 300), (8, 8, 4), (3, 2, 3, 2), (256, 256, 256, 5)]


def by_hand(probabilities: list[list[float]]) -> TablePolicy:
    policy = TablePolicy((2, 2), items=4)
    policy.of_taste = [torch.tensor(one).log().expand(TASTES, -1) for one in probabilities]
    policy.of_prefix = [torch.zeros_like(one) for one in policy.of_prefix]
    return policy


def test_groups_by_hand() -> None:
    table = SemanticIdTable(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), (2, 2))
    policy, view = by_hand([[0.8, 0.2], [0.6, 0.4]]), Trie.from_table(table).snapshot()
    state = torch.zeros((1, 1))
    # log .8 − log .2 = 1.39 and log .6 − log .4 = .41. Group 2 leaves code 0 of level 0 where λ > 1.39, and then
    # takes code 1 of level 1 where λ > .41. Group 3 at λ = 2 finds codes 0 and 1 used once each on both levels.
    for strength, expected in ((0.0, [0, 1, 2]), (0.3, [0, 1, 2]), (1.0, [0, 1, 2]), (2.0, [0, 3, 1])):
        found = diverse_beam_search(policy, state, view, Groups(3, 1, 1, strength))
        assert found.items.tolist() == [expected]
    assert found.code_log_probs is not None
    np.testing.assert_allclose(found.code_log_probs[0].exp(), [0.48, 0.08, 0.32], rtol=1e-6)


def slow_groups(
    policy: TablePolicy, state: Tensor, table: SemanticIdTable, groups: Groups, left: set[int]
) -> list[int]:
    """The same for one row, with dictionaries of paths."""
    paths = {item: tuple(table.codes[item].tolist()) for item in left}
    used: dict[tuple[int, int], int] = {}
    answer: list[int] = []
    for _ in range(groups.number):
        open_paths = {path: item for item, path in paths.items() if item not in answer}
        beams: dict[tuple[int, ...], tuple[np.float32, float]] = {(): (np.float32(0), 0.0)}
        for level in range(table.levels):
            found = {}
            for prefix, (log_prob, owed) in beams.items():
                asked = torch.tensor(prefix, dtype=torch.long).view(1, 1, -1)
                following = policy.next_code_log_probs(state, asked)[0, 0].numpy()
                for code in {path[level] for path in open_paths if path[:level] == prefix}:
                    penalty = owed + groups.strength * used.get((level, code), 0)
                    found[(*prefix, code)] = (following[code] + log_prob, penalty)
            last = level == table.levels - 1
            width = groups.size if last else max(groups.width, groups.size)
            rank = {prefix: place for place, prefix in enumerate(beams)}
            best = sorted(
                found,
                key=lambda path: (
                    -(np.float64(found[path][0]) - found[path][1]),
                    (open_paths[path],) if last else (rank[path[:-1]], path[-1]),
                ),
            )
            beams = {path: found[path] for path in best[:width]}
            for path in beams:
                used[level, path[level]] = used.get((level, path[level]), 0) + 1
        answer += [open_paths[path] for path in beams if path in open_paths]
    return answer


@settings(max_examples=60)
@given(
    sizes=st.sampled_from(SIZES),
    items=st.integers(1, 40),
    rows=st.integers(1, 3),
    groups=st.builds(Groups, st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.sampled_from([0.0, 0.5, 3.0])),
    share=st.sampled_from([0.0, 0.4, 0.9]),
    coarse=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_the_slow_twin_agrees(
    sizes: tuple[int, ...], items: int, rows: int, groups: Groups, share: float, coarse: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    table = random_table(sizes, items, seed)
    policy, view = TablePolicy(sizes, items, seed, coarse=coarse), Trie.from_table(table).snapshot()
    state = torch.from_numpy(random.integers(0, TASTES, (rows, 1))).float()
    denied = random.random((rows, len(table))) < share
    exclusions = Exclusions.of_pairs(view, *np.nonzero(denied & (np.arange(len(table)) % 2 == 0)))
    filters = [ItemFilter.denying(np.flatnonzero(one & (np.arange(len(table)) % 2 == 1))) for one in denied]
    found = diverse_beam_search(policy, state, view, groups, exclusions, filters)
    exact = all_log_probs(policy, state, table)
    for row in range(rows):
        left = set(np.flatnonzero(~denied[row]).tolist())
        slow = slow_groups(policy, state[row : row + 1], table, groups, left)
        assert found.items[row].tolist() == slow + [-1] * (groups.number * groups.size - len(slow))
        assert len(slow) == len(set(slow)) == min(len(left), groups.number * groups.size)
        assert found.code_log_probs is not None
        assert torch.equal(found.code_log_probs[row, : len(slow)], exact[row, slow])


def test_without_strength_and_as_wide_as_the_catalogue_groups_are_one_beam_search() -> None:
    table = random_table((16, 16, 16), 100)
    policy, view = TablePolicy((16, 16, 16), 100), Trie.from_table(table).snapshot()
    state = torch.arange(TASTES)[:, None].float()
    found = diverse_beam_search(policy, state, view, Groups(4, 5, 100, 0.0))
    assert torch.equal(found.items, beam_search(policy, state, view, 100, 20).items)


def test_strength_spreads_the_answer_over_first_codes() -> None:
    table = random_table((16, 16, 16), 600)
    policy, view = TablePolicy((16, 16, 16), 600), Trie.from_table(table).snapshot()
    state = torch.arange(TASTES)[:, None].float()

    def first_codes(strength: float) -> float:
        found = diverse_beam_search(policy, state, view, Groups(8, 2, 4, strength)).items.numpy()
        return float(np.mean([len(set(table.codes[row][:, 0].tolist())) for row in found]))

    spread = [first_codes(strength) for strength in (0.0, 1.0, 4.0)]
    assert spread[0] < spread[1] < spread[2]
    assert spread[2] > 2 * spread[0]


def test_senseless_groups_are_refused() -> None:
    for wrong in ((0, 1, 1), (1, 0, 1), (1, 1, -1)):
        with pytest.raises(RequestError, match="each number must be 1 or more"):
            Groups(*wrong)
    for strength in (-1.0, np.nan, np.inf):
        with pytest.raises(RequestError, match="the strength of diversity is"):
            Groups(2, 2, 2, strength)


def test_rows_with_nothing_left_and_broken_policies() -> None:
    table = SemanticIdTable(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), (2, 2))
    policy, view = by_hand([[0.8, 0.2], [0.6, 0.4]]), Trie.from_table(table).snapshot()
    nothing = ItemFilter.allowing([])
    found = diverse_beam_search(policy, torch.zeros((2, 1)), view, Groups(3, 2), filters=[nothing, None])
    assert found.items[0].tolist() == [-1] * 6
    assert sorted(found.items[1].tolist()) == [-1, -1, 0, 1, 2, 3]
    with pytest.raises(ModelError, match="the trie holds no item"):
        diverse_beam_search(policy, torch.zeros((1, 1)), Trie((2, 2)).snapshot(), Groups(1, 1))
    policy.of_taste[0] = torch.full((TASTES, 2), torch.nan)
    with pytest.raises(ModelError, match="row 0 is not a number"):
        diverse_beam_search(policy, torch.zeros((1, 1)), view, Groups(1, 1))
