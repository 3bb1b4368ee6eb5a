"""The softmax's denominator against the obvious way: values, gradients, masks, bf16."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.training.partition import coincidences, log_partition


def slow(queries: Tensor, directions: Tensor, log_expected: Tensor, mask: Tensor) -> Tensor:
    """With the whole (P, K) mask, and a tensor of its own for each step."""
    logits = queries @ directions.T - log_expected
    return logits.masked_fill(mask, -torch.inf).logsumexp(dim=1)


@settings(max_examples=30)
@given(rows=st.integers(1, 7), items=st.integers(1, 12), seed=st.integers(0, 99), size=st.sampled_from([1.0, 60.0]))
def test_values_and_gradients_agree_with_the_slow_twin(rows: int, items: int, seed: int, size: float) -> None:
    random = torch.Generator().manual_seed(seed)
    queries = (torch.randn(rows, 4, generator=random) * size).requires_grad_()
    directions = torch.randn(items, 4, generator=random).requires_grad_()
    log_expected = torch.randn(items, generator=random)
    targets = torch.randint(5, (rows,), generator=random)
    negatives = torch.randint(5, (items,), generator=random)
    mask = targets[:, None] == negatives
    weights = torch.randn(rows, generator=random).where(~mask.all(dim=1), 0.0)  # a row without any item has no slope
    found = []
    for total in (
        log_partition(queries, directions, log_expected, coincidences(targets, negatives)),
        slow(queries, directions, log_expected, mask),
    ):
        alive = total.isfinite()
        assert torch.equal(alive, ~mask.all(dim=1))
        (total[alive] * weights[alive]).sum().backward()
        assert queries.grad is not None
        assert directions.grad is not None
        found.append((total.detach(), queries.grad, directions.grad))
        queries.grad = directions.grad = None
    for fast, twin in zip(*found, strict=True):
        torch.testing.assert_close(fast, twin, rtol=1e-4, atol=1e-4)


@settings(max_examples=30)
@given(targets=st.lists(st.integers(0, 6), max_size=9), negatives=st.lists(st.integers(0, 6), max_size=9))
def test_coincidences_are_those_of_the_whole_mask(targets: list[int], negatives: list[int]) -> None:
    ours, theirs = torch.tensor(targets, dtype=torch.long), torch.tensor(negatives, dtype=torch.long)
    rows, columns = coincidences(ours, theirs)
    expected = {tuple(pair) for pair in (ours[:, None] == theirs).nonzero().tolist()}
    found = list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_a_row_whose_items_are_all_masked_counts_nothing_and_moves_nothing() -> None:
    queries = torch.ones(2, 3, requires_grad=True)
    masked = (torch.tensor([1, 1]), torch.tensor([0, 1]))
    total = log_partition(queries, torch.zeros(2, 3), None, masked)
    assert total.tolist() == [pytest.approx(0.6931472), -torch.inf]
    torch.nn.functional.softplus(total - 1.0).sum().backward()
    assert queries.grad is not None
    assert queries.grad[1].tolist() == [0.0, 0.0, 0.0]


def test_bf16_agrees_with_fp32() -> None:
    torch.manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(40, 16), dim=-1).mul_(20).requires_grad_()
    directions = torch.nn.functional.normalize(torch.randn(90, 16), dim=-1).requires_grad_()
    exact = log_partition(queries, directions)
    exact_gradient = torch.autograd.grad(exact.mean(), queries)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = log_partition(queries, directions)
    rough_gradient = torch.autograd.grad(rough.mean(), queries)[0]
    assert rough.dtype is torch.float32
    assert rough_gradient.dtype is torch.float32
    assert not torch.equal(rough, exact), "the product was taken in bf16"
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.1)
    torch.testing.assert_close(rough_gradient, exact_gradient, rtol=0, atol=0.03 * exact_gradient.abs().max().item())


def test_a_second_gradient_is_refused_instead_of_wrong() -> None:
    queries = torch.randn(2, 3, requires_grad=True)
    total = log_partition(queries, torch.randn(4, 3)).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
