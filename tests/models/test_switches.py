"""What must hold with every switch of the model on, and that without any the model is what it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asterism.config import ModelConfig, TrainingConfig
from asterism.data.sequences import Sequences
from asterism.models.policy import HistoryBatch
from asterism.models.ugt import UGT, UGTShape
from asterism.training.batches import make_batch
from asterism.training.objective import NextItemObjective
from models.small_ugt import EVERYTHING, ITEMS, MAX_EVENTS, batch_of, full_sequences, make_features, make_model

SWITCHES = [
    {name: EVERYTHING[name]} for name in ("actions", "values", "time_gaps", "contexts", "asked", "user_attributes")
] + [
    {"group_norm": True},
    {"experts": 1},
    {"experts": 4, "expert_top_k": 1},
    {"summaries": 3, "max_history": 20},
    EVERYTHING,
]
NAMES = ["+".join(switch) if len(switch) < 4 else "everything" for switch in SWITCHES]


def test_without_switches_the_model_is_what_it_was() -> None:
    """States and item losses seen at commit 3417732, when all was padded, codes had an MLP and nothing was pooled."""
    torch.manual_seed(0)
    config = ModelConfig(width=8, blocks=2, heads=2, max_events=6, dropout=0.0)
    model = UGT(make_features(), UGTShape(config, 0.1))
    torch.manual_seed(2)  # the decoder of then drew other numbers
    for block in model.blocks:
        torch.nn.init.normal_(block.bias.position)  # type: ignore[union-attr,arg-type]
        torch.nn.init.normal_(block.bias.time)  # type: ignore[union-attr,arg-type]
    rows = [[1, 2], [3, 4, 5, 6, 7, 8, 9], [0, 11, 4]]
    sequences = Sequences(
        np.cumsum([0, *map(len, rows)]),
        np.array([item for row in rows for item in row], dtype=np.int32),
        np.concatenate([np.arange(len(row)) ** 3 * 1000 for row in rows]).astype(np.int64),
        np.ones(12, dtype=np.int8),
    )
    for negatives, expected_loss in ((0, 6.568717), (7, 6.105137)):
        torch.manual_seed(1)
        objective = NextItemObjective(model, TrainingConfig(negatives=negatives), torch.ones(ITEMS)).train()
        terms = objective(make_batch(sequences, np.arange(3), model.layout))
        assert terms.items.item() == pytest.approx(expected_loss, abs=1e-5)
    with torch.inference_mode():
        states = model.eval().encode(HistoryBatch.from_sequences(sequences, model.layout))
    expected = [
        [0.053057, 1.873027, -0.818067, -1.025436, -0.850685, 1.339427, -0.494404, -0.076919],
        [0.911799, -1.271861, 0.996503, -1.322868, 1.070005, -0.313876, 0.848879, -0.91858],
        [0.600095, -0.95428, 1.41116, -1.384394, 1.261678, -0.472249, 0.439653, -0.901663],
    ]
    torch.testing.assert_close(states[:, :8], torch.tensor(expected), rtol=0, atol=1e-5)
    assert len(model.state_dict()) == 42


def with_other_future(sequences: Sequences, event: int, seed: int, *, same_request: bool) -> Sequences:
    """The one row with everything different from `event` on; a `same_request` keeps when and where `event` happened."""
    random = np.random.default_rng(seed)
    items, actions = sequences.items.copy(), sequences.actions.copy()
    times, values = sequences.timestamps.copy(), sequences.values.copy()  # type: ignore[union-attr]
    scenes, devices = sequences.scenes.copy(), sequences.devices.copy()  # type: ignore[union-attr]
    later = len(items) - event
    items[event:] = (items[event:] + random.integers(1, ITEMS, later)) % ITEMS
    actions[event:] = (actions[event:] + random.integers(1, 10, later)) % 10
    values[event:] = random.integers(1000, 2000, later)
    first = event + 1 if same_request else event
    times[first:] += 10**7
    scenes[first:] += 20
    devices[first:] += 20
    return replace(
        sequences, items=items, actions=actions, timestamps=times, values=values, scenes=scenes, devices=devices
    )


@settings(max_examples=30)
@given(events=st.integers(2, 25), back=st.integers(1, 4), seed=st.integers(0, 99), same_request=st.booleans())
def test_a_state_does_not_see_the_future(events: int, back: int, seed: int, same_request: bool) -> None:
    model = make_model(**EVERYTHING)
    back = min(back, events - 1)  # how many of the newest events are changed
    sequences = full_sequences([events], seed)
    other = with_other_future(sequences, events - back, seed, same_request=same_request)
    with torch.inference_mode():
        before, after = (model(batch_of(model, one)) for one in (sequences, other))
    # The state before the change is asked at the moment and in the scene of the changed event.
    unchanged = len(before) - back - (0 if same_request else 1)
    torch.testing.assert_close(before[:unchanged], after[:unchanged])
    assert not torch.allclose(before[len(before) - back], after[len(before) - back])


def test_what_is_asked_matters_to_the_state_that_is_asked() -> None:
    model = make_model(asked=True, contexts=True)
    sequences = full_sequences([4])
    assert sequences.asked is not None
    later = replace(sequences, asked=replace(sequences.asked, timestamps=sequences.asked.timestamps + 10**6))
    elsewhere = replace(sequences, asked=replace(sequences.asked, scenes=np.array([99], np.uint16)))
    with torch.inference_mode():
        here, then, there = (model(batch_of(model, one)) for one in (sequences, later, elsewhere))
    for other in (then, there):
        torch.testing.assert_close(here[:-1], other[:-1])
        assert not torch.allclose(here[-1], other[-1])


@pytest.mark.parametrize("switch", SWITCHES, ids=NAMES)
def test_neighbours_in_the_batch_and_padding_change_nothing(switch: dict[str, object]) -> None:
    model = make_model(**switch)
    sequences = full_sequences([3, 0, 25, 1, 9, 5])
    with torch.inference_mode():
        together = model.encode(batch_of(model, sequences))
        for row in range(len(sequences)):
            alone = model.encode(batch_of(model, sequences.take(np.array([row]))))
            torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)


COLUMNS = {
    "actions": "actions",
    "values": "values",
    "time_gaps": "timestamps",
    "contexts": "scenes",
    "user_attributes": "attributes",
}


@pytest.mark.parametrize(("switch", "column"), COLUMNS.items())
def test_a_column_is_read_where_it_is_switched_on(switch: str, column: str) -> None:
    sequences = full_sequences([4], seed=3)
    changed = getattr(sequences, column).copy()
    changed[0] = 7 if column == "values" else changed[0] + 1 if column != "timestamps" else 0
    other = replace(sequences, **{column: changed})
    with torch.inference_mode():
        for model in (make_model(**{switch: True}), make_model()):
            model.blocks[0].bias.time.zero_()  # type: ignore[union-attr,operator]
            model.blocks[1].bias.time.zero_()  # type: ignore[union-attr,operator]
            same = torch.allclose(*(model.encode(batch_of(model, one)) for one in (sequences, other)))
            assert same == (not getattr(model.shape.model, switch))


def test_columns_that_a_service_lacks_count_as_missing() -> None:
    model = make_model(**EVERYTHING)
    full = full_sequences([4, 9])
    bare = Sequences(full.offsets, full.items, full.timestamps, full.actions)
    nothing = replace(
        full,
        values=np.full(13, np.nan, np.float32),
        scenes=np.zeros(13, np.uint16),
        devices=np.zeros(13, np.uint16),
        attributes=np.zeros((2, 2), np.int32),
        asked=None,
    )
    with torch.inference_mode():
        states: list[Tensor] = [model.encode(batch_of(model, one)) for one in (bare, nothing, full)]
    torch.testing.assert_close(states[0], states[1])
    assert not torch.allclose(states[0], states[2])


@pytest.mark.parametrize("switch", SWITCHES, ids=NAMES)
def test_a_training_step_reaches_every_parameter(switch: dict[str, object]) -> None:
    model = make_model(**switch).train()
    sequences = full_sequences([25, 30, 3, 8, 12, 2])
    objective = NextItemObjective(model, TrainingConfig(negatives=0), torch.ones(ITEMS))
    loss = objective(make_batch(sequences, np.arange(6), model.layout)).total  # the experts' load among it
    loss.backward()
    dead = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert dead == []


def test_the_auxiliary_loss_is_that_of_the_last_training_pass() -> None:
    batch = make_batch(full_sequences([9, 8]), np.arange(2), MAX_EVENTS)
    plain, routed = make_model().train(), make_model(experts=4).train()
    plain(batch.histories)
    assert plain.auxiliary_loss().item() == 0.0
    assert routed.auxiliary_loss().item() == 0.0, "before any pass"
    routed(batch.histories)
    layers = [one.mixture.imbalance for one in routed.feed_forwards]  # type: ignore[union-attr]
    assert len(layers) == 2
    assert routed.auxiliary_loss().item() == pytest.approx((layers[0] + layers[1]).item() / 2)  # type: ignore[operator]
    assert routed.auxiliary_loss().item() > 0.9
    with torch.inference_mode():
        routed.eval()(batch.histories)
    assert routed.auxiliary_loss().item() == 0.0


def test_training_reads_the_same_windows_as_serving() -> None:
    """A training row without its last event is what is served before that event."""
    model = make_model(**EVERYTHING)
    whole = full_sequences([18, 30, 4])
    trained = make_batch(whole, np.arange(3), model.layout).histories
    known = whole.slices(whole.offsets[:-1], whole.offsets[1:] - 1)
    served = batch_of(model, known)
    assert trained.older is not None
    assert served.older is not None
    assert trained.older.items.tolist() == served.older.items.tolist()
    assert trained.older.counts.tolist() == served.older.counts.tolist()
    assert trained.older.timestamps.tolist() == served.older.timestamps.tolist()
    assert trained.items.tolist() == served.items.tolist()
    assert trained.asked is not None
    assert trained.asked.timestamps.tolist() == whole.timestamps[whole.offsets[1:] - 1].tolist()
    assert whole.scenes is not None
    assert trained.asked.scenes is not None
    assert trained.asked.scenes.tolist() == whole.scenes[whole.offsets[1:] - 1].tolist()


def test_bf16_agrees_with_fp32() -> None:
    model = make_model(**EVERYTHING).train()
    batch = make_batch(full_sequences([25, 3, 9]), np.arange(3), model.layout)
    exact = model(batch.histories)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(batch.histories)
        (rough.float().square().mean() + model.auxiliary_loss()).backward()
    assert torch.nn.functional.cosine_similarity(exact, rough.float(), dim=-1).min() > 0.98
    gradients = [one.grad for one in model.feed_forwards.parameters()]
    assert all(one is not None and torch.isfinite(one).all() for one in gradients)
