"""Loss terms on numbers done by hand."""

from math import exp, log

import pytest
import torch

from asterism.training.losses import (
    alignment_loss,
    code_loss,
    full_item_loss,
    preference_loss,
    sampled_item_loss,
)


def test_code_loss_sums_levels_and_averages_positions() -> None:
    first = torch.tensor([[log(1.0), log(3.0)], [log(1.0), log(1.0)]])  # p = (1/4, 3/4), (1/2, 1/2)
    second = torch.tensor([[log(2.0), log(6.0)], [log(9.0), log(1.0)]])  # p = (1/4, 3/4), (9/10, 1/10)
    right = torch.tensor([[1, 0], [0, 0]])
    levels = [
        (scores.gather(1, right[:, [level]])[:, 0], scores.logsumexp(dim=1))
        for level, scores in enumerate((first, second))
    ]
    loss = code_loss(levels)
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


def test_with_log_q_the_partition_function_is_unbiased() -> None:
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(5, 3), dim=-1)
    query = torch.nn.functional.normalize(torch.randn(1, 3), dim=-1)
    target = torch.tensor([2])
    shares = torch.tensor([0.5, 0.2, 0.1, 0.15, 0.05])
    # One negative a draw, each of the five possible draws weighed by its probability.
    losses = [
        sampled_item_loss(
            query, directions[target], directions[[item]], target, torch.tensor([item]), 0.5, shares[[item]].log()
        )
        for item in range(5)
    ]
    expected = sum(share * loss.exp() for share, loss in zip(shares, losses, strict=True))
    torch.testing.assert_close(expected, full_item_loss(query, directions, target, 0.5).exp())


def test_expected_counts_move_the_logits_of_negatives_alone() -> None:
    queries = torch.tensor([[1.0, 0.0]])
    target = torch.tensor([[1.0, 0.0]])
    negatives = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])  # cosines 0, -1, and the target itself
    expected = torch.tensor([2.0, 0.25, 3.0]).log()
    loss = sampled_item_loss(queries, target, negatives, torch.tensor([4]), torch.tensor([7, 8, 4]), 0.5, expected)
    assert loss.item() == pytest.approx(-log(exp(2) / (exp(2) + exp(0) / 2 + exp(-2) / 0.25)), rel=1e-5)


def test_alignment_is_one_minus_the_cosine() -> None:
    projected = torch.tensor([[3.0, 0.0], [1.0, 1.0], [2.0, 0.0], [1.0, 2.0]])
    content = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-5.0, 0.0], [0.0, 0.0]])  # cosines 1, 1/√2, -1, and no content
    assert alignment_loss(projected, content).item() == pytest.approx((0 + 1 - 0.5**0.5 + 2 + 1) / 4, rel=1e-5)


def test_an_item_without_content_moves_nothing() -> None:
    projected = torch.tensor([[1.0, 2.0]], requires_grad=True)
    alignment_loss(projected, torch.zeros(1, 2)).backward()
    assert projected.grad is not None
    assert projected.grad.tolist() == [[0.0, 0.0]]


def test_preference_weighs_questions_by_what_was_done() -> None:
    chosen = torch.tensor([log(3.0), 0.0, 7.0])
    rejected = torch.tensor([[0.0, log(3.0)], [0.0, 99.0], [0.0, 0.0]])  # σ(margin) 3/4, 1/2 | 1/2, absent | absent
    present = torch.tensor([[True, True], [True, False], [False, False]])
    loss = preference_loss(chosen, rejected, present, torch.tensor([3.0, 1.0, 2.0]))
    first, second = (-log(3 / 4) - log(1 / 2)) / 2, -log(1 / 2)
    assert loss.item() == pytest.approx((3 * first + 1 * second) / 4, rel=1e-5)


def test_without_a_pair_the_preference_is_zero_and_moves_nothing() -> None:
    chosen = torch.tensor([1.0], requires_grad=True)
    loss = preference_loss(chosen, torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool), torch.tensor([0.0]))
    loss.backward()
    assert chosen.grad is not None
    assert (loss.item(), chosen.grad.item()) == (0.0, 0.0)
