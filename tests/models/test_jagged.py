"""The flat path against its padded twin: states, gradients, and where a batch is cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.config import TrainingConfig
from asterism.models.ugt import UGT, jagged
from asterism.models.ugt.jagged import Packing, attention_positions, joined
from asterism.training.batches import make_batch
from asterism.training.objective import NextItemObjective
from models.padded_ugt import padded_states
from models.small_ugt import EVERYTHING, ITEMS, batch_of, full_sequences, make_model

SWITCHES = [{}, {"user_attributes": True}, {"summaries": 3, "max_history": 20}, EVERYTHING]
NAMES = ["plain", "user", "windows", "everything"]
LONG = {"max_events": 40, "max_history": 60}  # enough for views of several lengths


@pytest.fixture(params=[False, True], ids=["one view", "a view for each length"])
def _cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(jagged, "_ONE_VIEW_SCORES", 0)
        monkeypatch.setattr(jagged, "_SHORTEST_VIEW", 2)


@pytest.mark.usefixtures("_cut")
@pytest.mark.parametrize("switch", SWITCHES, ids=NAMES)
def test_states_and_gradients_are_those_of_the_padded_path(switch: dict[str, object]) -> None:
    model = make_model(**{**switch, **LONG})
    batch = batch_of(model, full_sequences([3, 0, 55, 1, 17, 9, 40, 2]))
    found = []
    for states in (model(batch), padded_states(model, batch)[batch.mask]):
        (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
        found.append((states.detach(), {name: one.grad for name, one in model.named_parameters()}))
        model.zero_grad(set_to_none=True)
    (flat, flat_gradients), (padded, padded_gradients) = found
    assert len(flat) == 3 + 40 + 1 + 17 + 9 + 40 + 2
    torch.testing.assert_close(flat, padded, rtol=1e-4, atol=1e-5)
    for name, gradient in padded_gradients.items():
        torch.testing.assert_close(flat_gradients[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("switch", SWITCHES, ids=NAMES)
def test_a_training_loss_is_that_of_the_padded_path(switch: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(**{**switch, **LONG}).train()
    objective = NextItemObjective(model, TrainingConfig(negatives=0, load_balance_weight=0.0), torch.ones(ITEMS))
    batch = make_batch(full_sequences([30, 2, 9, 16]), np.arange(4), model.layout)
    flat = objective(batch).total.item()
    monkeypatch.setattr(UGT, "forward", lambda self, histories: padded_states(self, histories)[histories.mask])
    assert flat == pytest.approx(objective(batch).total.item(), rel=1e-5)


def test_many_rows_of_mixed_lengths_are_encoded_as_one_by_one() -> None:
    model = make_model(**EVERYTHING | LONG)
    lengths = np.random.default_rng(0).integers(0, 60, 300).tolist()
    sequences = full_sequences(lengths)
    assert 300 * (40 + model.prefix.columns) ** 2 > jagged._ONE_VIEW_SCORES, "the batch is cut"
    with torch.inference_mode():
        together = model.encode(batch_of(model, sequences))
        alone = [model.encode(batch_of(model, sequences.take(np.array([row]))))[0] for row in range(0, 300, 15)]
    torch.testing.assert_close(together[::15], torch.stack(alone), rtol=1e-4, atol=1e-5)


def make_packing(lengths: list[int], prefix: int) -> tuple[Packing, Tensor]:
    """Rows of so many events after a prefix of which the last column is everywhere, and a number for each token."""
    events = max(1, *lengths)
    present = torch.arange(events, 0, -1)[None] <= torch.tensor(lengths)[:, None]
    before = torch.zeros(len(lengths), prefix, dtype=torch.bool)
    before[:, -1:] = True
    present = torch.cat([before, present], dim=1)
    places = present.flatten().nonzero()[:, 0]
    places = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(0))]
    packing = Packing(torch.zeros(present.shape, dtype=torch.long), present, places, prefix)
    return packing, torch.arange(1.0, len(places) + 1)[:, None]


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), prefix=st.integers(0, 3), several=st.booleans())
def test_views_hold_every_token_once_and_in_its_place(lengths: list[int], prefix: int, several: bool) -> None:
    packing, tokens = make_packing(lengths, prefix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jagged, "_ONE_VIEW_SCORES", 0 if several else 1 << 30)
        views = packing.views()
    back = joined([view.flat(view.dense(tokens)) for view in views], views)
    assert torch.equal(back, tokens)
    seen = torch.cat([view.dense(tokens).flatten() for view in views])
    assert sorted(seen[seen > 0].tolist()) == tokens[:, 0].tolist()
    for view in views:
        dense = view.dense(tokens)[:, :, 0]
        assert torch.equal(dense > 0, view.present)
        assert view.columns[: packing.prefix].tolist() == list(range(packing.prefix))
        assert view.columns[-1] == packing.present.shape[1] - 1, "the newest event stands last"


def test_rows_are_cut_by_doubling_lengths() -> None:
    packing, _ = make_packing([3, 40, 8, 9, 16, 0, 33], 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jagged, "_ONE_VIEW_SCORES", 0)
        shapes = [tuple(view.present.shape) for view in packing.views()]
    assert shapes == [(3, 1 + 8), (2, 1 + 16), (2, 1 + 40)]


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), several=st.booleans())
def test_the_positions_that_attention_sees_are_those_of_the_views(lengths: list[int], several: bool) -> None:
    packing, _ = make_packing(lengths, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jagged, "_ONE_VIEW_SCORES", 0 if several else 1 << 30)
        views = packing.views()
        counted = attention_positions(packing.present)
    assert counted == sum(view.present.numel() for view in views)
