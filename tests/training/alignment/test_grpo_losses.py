"""GRPO's advantages, ratios, divergence and loss on numbers done by hand."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch

from asterism.training.alignment.distribution import Candidates
from asterism.training.alignment.group_losses import (
    Clipping,
    GroupLogProbs,
    group_advantages,
    grpo_loss,
    has_signal,
    importance_ratios,
    kl_estimate,
)
from asterism.training.alignment.groups import Groups, Tally, averaged, joined, split
from asterism.training.alignment.lessons import Figures

PPO = Clipping(0.2, 0.2)


def test_advantages_are_rewards_within_their_group() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 4.0, 99.0]])
    present = torch.tensor([[True] * 4, [True, True, True, False]])
    found = group_advantages(rewards, present, by_deviation=True)
    spread = sqrt(3) / 4  # of 1, 0, 0, 0: √(1/4 · 3/4)
    assert found[0].tolist() == pytest.approx([0.75 / spread] + [-0.25 / spread] * 3)
    assert found[1].tolist() == pytest.approx([-2 / sqrt(8 / 3), 0, 2 / sqrt(8 / 3), 0])
    plain = group_advantages(rewards, present, by_deviation=False)
    assert plain.tolist() == [[0.75, -0.25, -0.25, -0.25], [-2, 0, 2, 0]]


def test_equal_rewards_have_no_signal_and_no_advantage() -> None:
    rewards = torch.tensor([[0.3, 0.3], [0.3, 0.4], [0.3, 9.0]])
    present = torch.tensor([[True, True], [True, True], [True, False]])
    assert has_signal(rewards, present).tolist() == [False, True, False]
    assert group_advantages(rewards, present, by_deviation=True)[[0, 2]].abs().max() == 0


def test_ratios_by_token_and_by_sequence() -> None:
    now, drawn = torch.tensor([[[log(0.6), log(0.1)]]]), torch.tensor([[[log(0.3), log(0.2)]]])
    assert importance_ratios(now, drawn, "token").flatten().tolist() == pytest.approx([2.0, 0.5])
    assert importance_ratios(now, drawn, "sequence").flatten().tolist() == pytest.approx([1.0, 1.0])  # √(2 · ½)


def test_the_divergence_estimate() -> None:
    now, reference = torch.tensor([log(0.5), log(0.2)]), torch.tensor([log(0.25), log(0.2)])
    assert kl_estimate(now, reference).tolist() == pytest.approx([0.5 - log(0.5) - 1, 0.0])


def test_its_mean_over_draws_is_the_divergence() -> None:
    ours, theirs = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    expected = (ours * (ours / theirs).log()).sum()
    assert (ours * kl_estimate(ours.log(), theirs.log())).sum() == pytest.approx(float(expected), rel=1e-5)


def one_group(ratios: list[float], clipping: Clipping, advantages: list[float], kl_weight: float = 0.0) -> float:
    drawn = torch.full((1, len(ratios), 1), log(0.1))
    now = drawn + torch.tensor(ratios).log()[None, :, None]
    present = torch.ones(1, len(ratios), dtype=torch.bool)
    log_probs = GroupLogProbs(now, drawn, drawn)
    return grpo_loss(log_probs, torch.tensor([advantages]), present, clipping, "token", kl_weight).total.item()


def test_the_loss_stops_gaining_where_the_ratio_is_clipped() -> None:
    # min(1.5 · 1, 1.2 · 1) = 1.2; min(0.5 · −1, 0.8 · −1) = −0.8; min(1.5 · −1, 1.2 · −1) = −1.5
    assert one_group([1.5, 0.5, 1.5], PPO, [1.0, -1.0, -1.0]) == pytest.approx(-(1.2 - 0.8 - 1.5) / 3)
    # DAPO: the upper bound is further away
    assert one_group([1.5, 0.5, 1.5], Clipping(0.2, 0.4), [1.0, -1.0, -1.0]) == pytest.approx(-(1.4 - 0.8 - 1.5) / 3)


def test_the_divergence_is_added_by_its_weight() -> None:
    estimate = 1 / 1.1 - log(1 / 1.1) - 1
    assert one_group([1.1], PPO, [2.0], kl_weight=0.5) == pytest.approx(-2.2 + 0.5 * estimate)


def test_absent_items_and_shares_of_clipping() -> None:
    drawn = torch.zeros(1, 2, 2)
    now = torch.tensor([[[log(2.0), 0.0], [5.0, 5.0]]])
    present = torch.tensor([[True, False]])
    found = grpo_loss(GroupLogProbs(now, drawn, drawn), torch.tensor([[1.0, 0.0]]), present, PPO, "token", 0.0)
    assert found.total.item() == pytest.approx(-(1.2 + 1.0) / 2)
    assert found.clipped.item() == pytest.approx(1 / 2)


def test_on_policy_the_gradient_is_that_of_reinforce() -> None:
    logits = torch.tensor([[0.2, -0.1, 0.4]], requires_grad=True)
    now = logits.log_softmax(1)[:, :, None]
    advantages = torch.tensor([[1.0, -0.5, -0.5]])
    log_probs = GroupLogProbs(now, now.detach(), now.detach())
    present = torch.ones(1, 3, dtype=torch.bool)
    grpo_loss(log_probs, advantages, present, PPO, "token", 0.3).total.backward()
    share = logits.detach().softmax(1)
    expected = -(advantages - share * advantages.sum()) / 3  # Σ A = 0
    torch.testing.assert_close(logits.grad, expected)


def test_a_sequences_ratio_is_clipped_as_one() -> None:
    now, drawn = torch.tensor([[[log(2.0), log(0.5)]]]), torch.zeros(1, 1, 2)
    present = torch.ones(1, 1, dtype=torch.bool)
    by_sequence = grpo_loss(GroupLogProbs(now, drawn, drawn), torch.tensor([[1.0]]), present, PPO, "sequence", 0.0)
    assert by_sequence.total.item() == pytest.approx(-1.0)
    by_token = grpo_loss(GroupLogProbs(now, drawn, drawn), torch.tensor([[1.0]]), present, PPO, "token", 0.0)
    assert by_token.total.item() == pytest.approx(-(1.2 + 0.5) / 2)
    assert exp(float((now - drawn).mean())) == pytest.approx(1.0)


def groups(rows: list[int]) -> Groups:
    numbers = torch.tensor(rows)[:, None]
    figures = Figures(float(len(rows)), 1.0, 0.0, 0.0)
    return Groups(
        np.array(rows),
        Candidates(numbers, numbers.float()),
        numbers,
        numbers >= 0,
        numbers.float(),
        numbers[:, :, None].float(),
        (Tally(len(rows), len(rows), figures),),
    )


def test_groups_fill_a_batch_and_the_rest_waits() -> None:
    ready, rest = split(joined(groups([3, 1]), groups([4])), 2)
    assert rest is not None
    assert ready.rows.tolist() == [3, 1]
    for one, rows in ((ready, [3, 1]), (rest, [4])):
        assert one.rows.tolist() == rows
        for part in (one.candidates.items, one.candidates.of_history, one.picked, one.advantages, one.reference):
            assert part is not None
            assert part.flatten().tolist() == rows
    assert (averaged(ready.tallies).reward, averaged(rest.tallies).reward) == (2.0, 1.0)
    assert split(groups([5]), 1)[1] is None


def test_a_divergence_without_weight_may_be_infinite() -> None:
    """Of an item of a beam that the policy has all but given up, exp(log π_ref − log π) overflows."""
    now = torch.tensor([[[-1.0], [-120.0]]], requires_grad=True)
    log_probs = GroupLogProbs(now, now.detach(), torch.full((1, 2, 1), -2.0))
    advantages, present = torch.tensor([[0.5, -0.5]]), torch.ones(1, 2, dtype=torch.bool)
    loss = grpo_loss(log_probs, advantages, present, Clipping(0.2, 0.2), "token", 0.0)
    loss.total.backward()
    assert torch.isinf(loss.kl)
    torch.testing.assert_close(now.grad, torch.tensor([[[-0.25], [0.25]]]))
