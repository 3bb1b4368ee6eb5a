"""The recency-weighted mean of item directions: weights by hand, and what it may look at."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
import torch

from asterism.models.ugt import jagged
from asterism.models.ugt.jagged import Packing
from asterism.models.ugt.pooling import RecencyPooling
from models.small_ugt import EVERYTHING, batch_of, full_sequences, make_model


def packing_of(present: list[list[int]], prefix: int = 0) -> Packing:
    there = torch.tensor(present, dtype=torch.bool)
    return Packing(torch.zeros(there.shape, dtype=torch.long), there, there.flatten().nonzero()[:, 0], prefix)


def make_pooling(gain: float = 2.0) -> RecencyPooling:
    one = RecencyPooling(4)
    with torch.no_grad():
        one.gain.fill_(gain)
    return one


def test_weights_by_hand() -> None:
    """Each third of a step older, an event weighs e^(-1/3) of the next newer one; the gain is 2."""
    directions = torch.eye(4)
    found = make_pooling()(directions[:3], packing_of([[0, 1, 1, 1]]).views(), 0)
    one, two = exp(-1 / 3), exp(-2 / 3)
    expected = [
        [1.0, 0.0, 0.0, 0.0],
        [one / (1 + one), 1 / (1 + one), 0.0, 0.0],
        [two / (1 + one + two), one / (1 + one + two), 1 / (1 + one + two), 0.0],
    ]
    np.testing.assert_allclose(found.detach().numpy(), np.multiply(2.0, expected), rtol=1e-6)


def test_scores_are_learned_by_age() -> None:
    one = make_pooling()
    with torch.no_grad():
        one.scores.copy_(torch.tensor([0.0, 5.0, -40.0, 0.0]))
    found = one(torch.eye(4)[:3], packing_of([[1, 1, 1]]).views(), 0)[2]
    share = exp(5) / (1 + exp(5))
    np.testing.assert_allclose(found.detach().numpy(), [0.0, 2 * share, 2 - 2 * share, 0.0], atol=1e-6)


def test_tokens_before_the_events_do_not_count() -> None:
    one = make_pooling()
    found = one(torch.eye(4), packing_of([[1, 1, 0, 1, 1]], prefix=2).views(), 2)
    assert found[:2].abs().sum() == 0, "before the first event there is nothing"
    share = exp(-1 / 3) / (1 + exp(-1 / 3))
    np.testing.assert_allclose(found[2:].detach().numpy(), [[0, 0, 2, 0], [0, 0, 2 * share, 2 - 2 * share]], rtol=1e-6)
    found.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in one.parameters() if parameter.grad is not None)


def test_rows_in_several_views_are_pooled_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [3, 20, 0, 9, 1, 17]
    present = [[0] * (20 - length) + [1] * length for length in lengths]
    directions = torch.randn(sum(lengths), 4, generator=torch.Generator().manual_seed(0))
    one = RecencyPooling(20)
    with torch.no_grad():
        one.gain.fill_(1.0)
        together = one(directions, packing_of(present).views(), 0)
        monkeypatch.setattr(jagged, "_ONE_VIEW_SCORES", 0)
        views = packing_of(present).views()
        assert len(views) == 3
        torch.testing.assert_close(one(directions, views, 0), together)


@pytest.mark.parametrize("switch", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_gain_of_zero_changes_nothing_and_is_where_training_starts(switch: dict[str, object]) -> None:
    with_it, without = make_model(**switch, recency_pooling=True), make_model(**switch)
    assert with_it.pooling is not None
    assert without.pooling is None
    without.load_state_dict({name: one for name, one in with_it.state_dict().items() if "pooling" not in name})
    batch = batch_of(with_it, full_sequences([25, 0, 3]))
    with torch.inference_mode():
        plain = without.encode(batch)
        state, prefixes = with_it.encode(batch), torch.zeros(3, 1, 0, dtype=torch.long)
        assert not torch.allclose(with_it.item_scores(state), without.item_scores(plain))
        codes = with_it.next_code_log_probs(state, prefixes)
        assert torch.equal(codes, without.next_code_log_probs(plain, prefixes)), "codes do not read it"
        with_it.pooling.gain.zero_()
        torch.testing.assert_close(with_it.item_scores(with_it.encode(batch)), without.item_scores(plain))
    assert RecencyPooling(3).gain.item() == 0.0


def test_a_query_is_the_turned_state_and_what_is_pooled() -> None:
    model = make_model(recency_pooling=True)
    state = torch.randn(1, 16)
    own = state[0, :8] + model.turn(state[0, :8])
    by_hand = own / own.norm() + state[0, 8:]
    torch.testing.assert_close(model.item_queries(state)[0], by_hand / by_hand.norm())


def test_a_later_event_does_not_change_what_was_pooled_before() -> None:
    one, views = make_pooling(), packing_of([[0, 1, 1, 1]]).views()
    before, after = torch.eye(4)[:3], torch.eye(4)[[0, 1, 3]]
    assert torch.equal(one(before, views, 0)[:2], one(after, views, 0)[:2])
    assert not torch.equal(one(before, views, 0)[2], one(after, views, 0)[2])


def test_the_gain_learns_from_the_first_step() -> None:
    one = RecencyPooling(4)
    (one(torch.eye(4)[:3], packing_of([[1, 1, 1]]).views(), 0) * torch.arange(4.0)).sum().backward()
    assert one.gain.grad is not None
    assert one.gain.grad.item() > 0
