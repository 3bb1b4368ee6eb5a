"""Negatives: what is drawn, how often it was to be expected, and that the correction leads back to the full softmax."""

import pytest
import torch
from torch import Tensor

from asterism.config.run import NegativeSampling
from asterism.training.losses import full_item_loss, sampled_item_loss
from asterism.training.negatives import NegativeDraw, NegativeSampler

COUNTS = torch.tensor([60, 20, 10, 5, 3, 1, 1])
CORRECTED: list[NegativeSampling] = ["popularity", "in_batch", "mixed"]


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def drawn_items(draw: NegativeDraw, targets: Tensor) -> Tensor:
    return torch.cat([targets[draw.own], draw.drawn])


def batch_of_targets(questions: int) -> Tensor:
    return torch.multinomial(COUNTS.float(), questions, replacement=True)


@pytest.mark.parametrize("method", CORRECTED)
def test_corrected_negatives_lead_to_the_full_softmax(method: NegativeSampling) -> None:
    torch.manual_seed(0)
    directions = unit(len(COUNTS), 4).requires_grad_()
    queries, asked = unit(3, 4), torch.tensor([0, 3, 6])
    full = full_item_loss(queries, directions, asked, 0.3)
    (exact,) = torch.autograd.grad(full, directions)
    others = batch_of_targets(400_000)
    draw = NegativeSampler(method, 400_000, COUNTS)(others)
    items = drawn_items(draw, others)

    def sampled(log_expected: Tensor | None) -> tuple[Tensor, Tensor]:
        loss = sampled_item_loss(queries, directions[asked], directions[items], asked, items, 0.3, log_expected)
        return loss, torch.autograd.grad(loss, directions)[0]

    loss, gradient = sampled(draw.log_expected)
    torch.testing.assert_close(loss, full, rtol=5e-3, atol=0)
    torch.testing.assert_close(gradient, exact, rtol=0, atol=5e-3 * exact.abs().max().item())
    assert draw.log_expected is not None
    _, biased = sampled(torch.full_like(draw.log_expected, 400_000 / len(COUNTS)).log())
    assert (biased - exact).abs().max() > 0.1 * exact.abs().max(), "taken as uniform, the same draws mislead"


@pytest.mark.parametrize("method", CORRECTED)
def test_expected_counts_are_those_of_the_draws(method: NegativeSampling) -> None:
    torch.manual_seed(0)
    sampler = NegativeSampler(method, 6, COUNTS)
    seen, expected = torch.zeros(len(COUNTS)), torch.zeros(len(COUNTS))
    for _ in range(4_000):
        targets = batch_of_targets(9)
        draw = sampler(targets)
        items = drawn_items(draw, targets)
        others = items.clone()
        others[: len(draw.own)][draw.own == 0] = -1  # the first question's own target is no negative of it
        seen += torch.bincount(others[others >= 0], minlength=len(COUNTS))
        assert draw.log_expected is not None
        expected[items] = draw.log_expected.exp()
    torch.testing.assert_close(seen / 4_000, expected, rtol=0.1, atol=0.02)


def test_uniform_negatives_are_drawn_as_ever_and_not_corrected() -> None:
    torch.manual_seed(3)
    draw = NegativeSampler("uniform", 5, COUNTS)(torch.tensor([1, 2]))
    torch.manual_seed(3)
    assert draw.drawn.tolist() == torch.randint(len(COUNTS), (5,)).tolist()
    assert (len(draw.own), draw.log_expected) == (0, None)


def test_a_batch_gives_no_more_negatives_than_it_has_questions() -> None:
    sampler = NegativeSampler("mixed", 10, COUNTS)
    draw = sampler(torch.tensor([4, 4, 0]))
    assert sorted(draw.own.tolist()) == [0, 1, 2]
    assert len(draw.drawn) == 5
    only = NegativeSampler("in_batch", 10, COUNTS)(torch.tensor([4, 4, 0]))
    assert (len(only.own), len(only.drawn)) == (3, 0)


def test_popular_draws_reach_items_without_an_event() -> None:
    torch.manual_seed(0)
    draw = NegativeSampler("popularity", 2_000, torch.tensor([1, 0, 0]))(torch.tensor([0]))
    assert draw.drawn.unique().tolist() == [0, 1, 2]
    assert draw.log_expected is not None
    assert draw.log_expected.exp().unique().tolist() == pytest.approx([500.0, 1000.0])  # shares 1/4, 1/4, 2/4
