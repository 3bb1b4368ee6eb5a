"""Loss terms on numbers done by hand."""

from math import exp, log

import pytest
import torch

from asterism.training.losses import code_loss, full_item_loss, sampled_item_loss


def test_code_loss_sums_levels_and_averages_positions() -> None:
    first = torch.tensor([[log(1.0), log(3.0)], [log(1.0), log(1.0)]])  # p = (1/4, 3/4), (1/2, 1/2)
    second = torch.tensor([[log(2.0), log(6.0)], [log(9.0), log(1.0)]])  # p = (1/4, 3/4), (9/10, 1/10)
    loss = code_loss([first, second], torch.tensor([[1, 0], [0, 0]]))
    assert loss.item() == pytest.approx(
        (-log(3 / 4) - log(1 / 4)) / 2 + (-log(1 / 2) + -log(9 / 10)) / 2 + 0.0, rel=1e-5
    )


def test_full_item_loss_is_a_softmax_over_cosines() -> None:
    queries = torch.tensor([[1.0, 0.0]])
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # cosines 1, 0, -1
    loss = full_item_loss(queries, directions, torch.tensor([0]), temperature=0.5)
    assert loss.item() == pytest.approx(-log(exp(2) / (exp(2) + 1 + exp(-2))), rel=1e-5)


def test_sampled_item_loss_masks_the_target_among_its_negatives() -> None:
    queries = torch.tensor([[1.0, 0.0]])
    target = torch.tensor([[1.0, 0.0]])
    negatives = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # the second is the target itself
    loss = sampled_item_loss(queries, target, negatives, torch.tensor([4]), torch.tensor([7, 4]), temperature=1.0)
    assert loss.item() == pytest.approx(-log(exp(1) / (exp(1) + 1)), rel=1e-5)


def test_sampling_every_other_item_equals_the_full_softmax() -> None:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(9, 4), dim=-1)
    queries = torch.nn.functional.normalize(torch.randn(3, 4), dim=-1)
    targets = torch.tensor([2, 5, 8])
    everything = torch.arange(9)
    sampled = sampled_item_loss(queries, directions[targets], directions, targets, everything, 0.1)
    torch.testing.assert_close(sampled, full_item_loss(queries, directions, targets, 0.1))
