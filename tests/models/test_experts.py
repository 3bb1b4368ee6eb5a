"""Routed experts against a loop over tokens, the load by hand, and that no token is lost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from asterism.models.ugt.experts import FeedForward, MixtureOfExperts, Routing, load_imbalance


def make_mixture(experts: int, top_k: int, seed: int = 0) -> MixtureOfExperts:
    torch.manual_seed(seed)
    mixture = MixtureOfExperts(6, experts, top_k, dropout=0.0)
    torch.nn.init.normal_(mixture.expand_bias)
    torch.nn.init.normal_(mixture.contract_bias)
    return mixture


def slow_mixture(mixture: MixtureOfExperts, tokens: Tensor) -> Tensor:
    """One token and one expert at a time."""
    rows = []
    for token in tokens:
        probabilities = torch.softmax(mixture.router.weight @ token, dim=0)
        chosen = sorted(range(len(probabilities)), key=lambda one: (-probabilities[one].item(), one))[: mixture.top_k]
        total = sum(probabilities[one] for one in chosen) if mixture.top_k > 1 else 1.0
        row = torch.zeros_like(token)
        for one in chosen:
            hidden = functional.silu(token @ mixture.expand[one] + mixture.expand_bias[one, 0])
            row = row + probabilities[one] / total * (hidden @ mixture.contract[one] + mixture.contract_bias[one, 0])
        rows.append(row)
    return torch.stack(rows)


@settings(max_examples=40)
@given(experts=st.integers(2, 9), top_k=st.integers(1, 4), tokens=st.integers(1, 30), seed=st.integers(0, 99))
def test_buckets_agree_with_a_loop_over_tokens(experts: int, top_k: int, tokens: int, seed: int) -> None:
    mixture = make_mixture(experts, min(top_k, experts), seed)
    asked = torch.randn(tokens, 6)
    torch.testing.assert_close(mixture(asked), slow_mixture(mixture, asked), rtol=1e-4, atol=1e-5)


def test_gradients_agree_with_a_loop_over_tokens() -> None:
    mixture, asked = make_mixture(4, 2), torch.randn(12, 6)
    found = []
    for answer in (mixture(asked), slow_mixture(mixture, asked)):
        answer.square().sum().backward()
        found.append({name: one.grad.clone() for name, one in mixture.named_parameters() if one.grad is not None})
        mixture.zero_grad()
    assert set(found[0]) == {"router.weight", "expand", "expand_bias", "contract", "contract_bias"}
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-4)


def test_no_token_is_lost_where_all_want_one_expert() -> None:
    mixture = make_mixture(8, 1)
    with torch.no_grad():
        mixture.router.weight.zero_()
        mixture.router.weight[5] = 1.0
    asked = torch.rand(50, 6) + 0.1
    assert mixture.route(asked).experts.unique().tolist() == [5]
    torch.testing.assert_close(mixture(asked), slow_mixture(mixture, asked), rtol=1e-4, atol=1e-5)


def test_ties_go_to_the_first_experts() -> None:
    mixture = make_mixture(40, 3)
    torch.nn.init.zeros_(mixture.router.weight)
    routing = mixture.route(torch.randn(20, 6))
    assert routing.experts.tolist() == [[0, 1, 2]] * 20
    torch.testing.assert_close(routing.gates, torch.full((20, 3), 1 / 3))


def test_the_load_by_hand() -> None:
    # Three tokens, two experts; expert 0 gets two of three: n Σ f P = 2 (2/3 · 0.6 + 1/3 · 0.4)
    probabilities = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
    routing = Routing(probabilities, torch.tensor([[0], [0], [1]]), torch.ones(3, 1))
    assert load_imbalance(routing).item() == pytest.approx(2 * (2 / 3 * 0.6 + 1 / 3 * 0.4))
    even = Routing(torch.full((4, 2), 0.5), torch.tensor([[0], [1], [0], [1]]), torch.ones(4, 1))
    assert load_imbalance(even).item() == pytest.approx(1.0)
    alone = Routing(torch.tensor([[0.0, 1.0, 0.0]] * 4), torch.ones(4, 1, dtype=torch.long), torch.ones(4, 1))
    assert load_imbalance(alone).item() == pytest.approx(3.0)
    both = Routing(probabilities, torch.tensor([[0, 1], [0, 1], [1, 0]]), torch.ones(3, 2))
    assert load_imbalance(both).item() == pytest.approx(2 * (1 / 2 * 0.6 + 1 / 2 * 0.4))


def test_the_load_loss_spreads_the_load() -> None:
    mixture = make_mixture(4, 1)
    with torch.no_grad():
        mixture.router.weight[2] += 0.5
    asked = torch.randn(256, 6) + 1.0
    optimizer = torch.optim.SGD([mixture.router.weight], lr=0.3)
    before = load_imbalance(mixture.route(asked)).item()
    for _ in range(100):
        optimizer.zero_grad()
        load_imbalance(mixture.route(asked)).backward()
        optimizer.step()
    assert before > 2.0
    assert load_imbalance(mixture.route(asked)).item() < 1.1


def test_a_batch_without_any_token_is_routed_nowhere() -> None:
    layer = FeedForward(6, 3, 2, token_groups=1, dropout=0.0).train()
    assert layer(torch.empty(0, 6), torch.empty(0, dtype=torch.long)).shape == (0, 6)
    assert layer.mixture is not None
    assert layer.mixture.imbalance == 0.0


def test_one_expert_is_a_plain_network() -> None:
    torch.manual_seed(0)
    layer = FeedForward(6, 1, 2, token_groups=1, dropout=0.0)
    assert layer.mixture is None
    states = torch.randn(3, 6)
    first, _, _, second = layer.network  # type: ignore[misc]
    by_hand = states + second(functional.silu(first(layer.norm(states))))
    torch.testing.assert_close(layer(states, torch.zeros(3, dtype=torch.long)), by_hand)


def test_more_questions_than_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot ask 3 of 2 experts"):
        MixtureOfExperts(6, 2, 3, 0.0)
