"""DPO's losses on numbers done by hand."""

from math import exp, log

import pytest
import torch

from asterism.training.alignment.dpo import LogRatios, dpo_loss, softmax_dpo_loss

EVERYTHING = torch.tensor([[True, True]])


def ratios(chosen: float, rejected: list[float], present: list[bool] | None = None) -> LogRatios:
    there = [True] * len(rejected) if present is None else present
    return LogRatios(torch.tensor([chosen]), torch.tensor([rejected]), torch.tensor([there]))


def test_dpo_is_the_mean_over_pairs_of_the_logistic_loss_of_margins() -> None:
    loss = dpo_loss(ratios(log(3.0), [0.0, 2 * log(3.0)]), beta=1.0)  # σ(log 3) = 3/4, σ(−log 3) = 1/4
    assert loss.tolist() == pytest.approx([(-log(3 / 4) - log(1 / 4)) / 2])


def test_beta_scales_the_margin() -> None:
    loss = dpo_loss(ratios(2 * log(3.0), [0.0]), beta=0.5)
    assert loss.tolist() == pytest.approx([-log(3 / 4)])


def test_label_smoothing_takes_a_share_of_pairs_to_be_the_wrong_way_round() -> None:
    loss = dpo_loss(ratios(log(3.0), [0.0]), beta=1.0, label_smoothing=0.1)
    assert loss.tolist() == pytest.approx([-0.9 * log(3 / 4) - 0.1 * log(1 / 4)])


def test_an_absent_pair_counts_for_nothing() -> None:
    loss = dpo_loss(ratios(log(3.0), [0.0, 99.0], [True, False]), beta=1.0)
    assert loss.tolist() == pytest.approx([-log(3 / 4)])
    assert dpo_loss(ratios(1.0, [0.0], [False]), beta=1.0).tolist() == [0.0]


def test_softmax_dpo_is_the_chosen_items_share_of_the_odds() -> None:
    # −log σ(−log(e^{−2} + e^{−1})) = log(1 + e^{−2} + e^{−1})
    loss = softmax_dpo_loss(ratios(2.0, [0.0, 1.0]), beta=1.0)
    assert loss.tolist() == pytest.approx([log(1 + exp(-2) + exp(-1))])
    assert softmax_dpo_loss(ratios(2.0, [0.0, 1.0]), beta=0.5).tolist() == pytest.approx([log(1 + exp(-1) + exp(-0.5))])


def test_softmax_dpo_with_one_rejected_item_is_dpo() -> None:
    one = ratios(0.7, [-0.4, 5.0], [True, False])
    torch.testing.assert_close(softmax_dpo_loss(one, 0.3), dpo_loss(one, 0.3))


def test_without_a_rejected_item_nothing_moves() -> None:
    chosen = torch.tensor([1.0, 1.0], requires_grad=True)
    rejected = torch.tensor([[0.0], [0.0]])
    loss = softmax_dpo_loss(LogRatios(chosen, rejected, torch.tensor([[False], [True]])), beta=1.0)
    loss.sum().backward()
    assert loss[0] == 0
    assert chosen.grad is not None
    assert chosen.grad[0] == 0
    assert chosen.grad[1] == pytest.approx(1 / (1 + exp(1.0)) * -1)
