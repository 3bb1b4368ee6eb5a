"""Groups: what the beam finds, the truth among it, and draws from the softmax."""

import numpy as np
import torch

from asterism.config import DecodingConfig
from asterism.decoding.beam import beam_search
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.trie import Trie
from asterism.models.policy import read_histories
from asterism.training.alignment.distribution import ItemDistribution
from asterism.training.alignment.rollouts import Roller, draw_group
from decoding.table_policy import TablePolicy, random_table
from worlds import cases_of

SIZES, ITEMS = (5, 4, 3), 30


def roller(count: int) -> tuple[TablePolicy, Roller]:
    table = random_table(SIZES, ITEMS)
    distribution = ItemDistribution.of("codes", table, DecodingConfig(), HistoryHeads())
    return TablePolicy(SIZES, ITEMS), Roller(Trie.from_table(table).snapshot(), distribution, count)


def test_candidates_are_the_beams_without_the_history() -> None:
    policy, one = roller(6)
    cases = cases_of([[3, 5], [], [1, 2, 4]], [7, 8, 9])
    _, found = one.candidates(policy, cases, keep_truth=False)
    state = policy.encode(read_histories(policy, cases.histories))
    free = beam_search(policy, state, one.view, ITEMS, ITEMS).items
    for row, seen in enumerate([{3, 5}, set(), {1, 2, 4}]):
        assert found.items[row].tolist() == [item for item in free[row].tolist() if item not in seen][:6]


def test_the_truth_takes_the_last_place_where_the_beam_missed_it() -> None:
    policy, one = roller(6)
    cases = cases_of([[3, 5]] * ITEMS, list(range(ITEMS)))
    plain = one.candidates(policy, cases, keep_truth=False)[1].items
    kept = one.candidates(policy, cases, keep_truth=True)[1].items
    for target in range(ITEMS):
        if target in plain[target]:
            assert kept[target].tolist() == plain[target].tolist()
        else:
            assert kept[target].tolist() == [*plain[target, :5].tolist(), target]
    assert (kept[3] == 3).sum() == 1, "a repeat may be the answer"


def test_a_beam_group_holds_the_best_and_what_is_kept() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, -1.0, -torch.inf]])
    random = torch.empty(0)
    assert draw_group(scores, 2, "beam", None, random).tolist() == [[1, 2]]
    keep = torch.tensor([[False, False, False, True, False]])
    assert draw_group(scores, 2, "beam", keep, random).tolist() == [[1, 3]]
    assert draw_group(scores, 9, "beam", None, random).tolist() == [[1, 2, 0, 3, 4]]


def test_draws_follow_the_softmax() -> None:
    shares = np.array([0.5, 0.3, 0.2])
    chances = torch.rand((20_000, 3), generator=torch.Generator().manual_seed(0))
    scores = torch.from_numpy(np.log(shares)).float().expand(20_000, -1)
    picked = draw_group(scores, 3, "sample", None, chances)
    assert picked.shape == (20_000, 3)
    np.testing.assert_allclose(np.bincount(picked.ravel()) / picked.numel(), shares, atol=0.01)
    assert bool((scores.gather(1, picked).diff(dim=1) <= 0).all()), "best first"
    assert torch.equal(picked, draw_group(scores, 3, "sample", None, chances))
    keep = torch.tensor([False, False, True]).expand(20_000, -1)
    kept = draw_group(scores, 3, "sample", keep, chances)
    assert bool((kept == 2).any(dim=1).all())


def test_padding_is_never_drawn() -> None:
    scores = torch.tensor([[0.0, -torch.inf, -3.0, -torch.inf]])
    ends = torch.tensor([0.0, 1 - 2**-24])  # where rounding could step outside
    chances = torch.cat([torch.rand(500, generator=torch.Generator().manual_seed(0)), ends])[None]
    picked = draw_group(scores, 502, "sample", None, chances)
    assert set(picked[0].tolist()) == {0, 2}


def test_a_repeat_may_be_the_answer() -> None:
    policy, one = roller(ITEMS)
    found = one.candidates(policy, cases_of([[3, 5]], [3]), keep_truth=False)[1].items[0].tolist()
    assert 3 in found
    assert 5 not in found
