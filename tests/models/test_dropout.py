"""Dropout on a CPU: the share, the mean, independence, and that a seed fixes it."""

from __future__ import annotations

import pytest
import torch

from asterism.models.ugt.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(0)
    out = Dropout(share).train()(torch.ones(1000, 401))
    kept = round((1 - share) * 65_536) / 65_536
    error = (share * (1 - share) / out.numel()) ** 0.5
    assert (out == 0).float().mean().item() == pytest.approx(1 - kept, abs=4 * error)
    assert out[out > 0].unique().tolist() == [pytest.approx(1 / kept)]
    assert out.mean().item() == pytest.approx(1.0, abs=5 * error / kept)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    out = Dropout(0.5).train()(torch.ones(400_001)) - 1.0  # an entry is -1 or 1
    for step in (1, 2, 3, 4, 8):
        assert abs((out[step:] * out[:-step]).mean().item()) < 4 / 400_000**0.5, f"{step} apart"


def test_the_gradient_has_the_same_mask() -> None:
    torch.manual_seed(0)
    states = torch.randn(7, 5, requires_grad=True)
    out = Dropout(0.25).train()(states)
    out.sum().backward()
    assert states.grad is not None
    torch.testing.assert_close(states.grad * states, out)
    assert 0 < (states.grad == 0).sum() < 35


def test_a_seed_fixes_it_and_the_next_draw_differs() -> None:
    layer, ones = Dropout(0.5).train(), torch.ones(99)
    torch.manual_seed(3)
    first, second = layer(ones), layer(ones)
    torch.manual_seed(3)
    assert torch.equal(layer(ones), first)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_outside_training_or_at_a_share_of_zero() -> None:
    ones = torch.ones(99)
    assert Dropout(0.5).eval()(ones) is ones
    assert Dropout(0.0).train()(ones) is ones


def test_bf16_stays_bf16() -> None:
    assert Dropout(0.5).train()(torch.ones(9, dtype=torch.bfloat16)).dtype is torch.bfloat16
