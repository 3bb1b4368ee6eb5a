"""The moving average of weights: by hand, put in place and taken out again, and within the loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import worlds
from asterism.config import ModelConfig, TrainingConfig
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.training.averaging import WeightAverage
from asterism.training.loop import Run, Validation, fit
from asterism.training.monitor import METRICS_FILE

ITEMS = 20
CONFIG = TrainingConfig(epochs=3, batch_users=8, learning_rate=0.01, warmup_steps=1, negatives=0)


def make_layer(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    set_to(layer, value)
    return layer


def set_to(layer: nn.Linear, value: float) -> None:
    with torch.no_grad():
        layer.weight.fill_(value)


def test_the_decay_by_hand() -> None:
    layer = make_layer(100.0)
    average = WeightAverage(layer, horizon=4.0)
    assert average.on
    expected = 100.0
    for step, value in ((1, 3.0), (2, 5.0), (30, 7.0), (31, 8.0)):
        set_to(layer, value)
        average.update(step)
        decay = {1: 1 / 11, 2: 2 / 12, 30: 0.75, 31: 0.75}[step]  # 30/40 is the horizon's 1 - 1/4
        expected = decay * expected + (1 - decay) * value
        assert average.averages["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert layer.weight.item() == 8.0


def test_averages_are_put_in_place_and_taken_out_again() -> None:
    layer = make_layer(2.0)
    average = WeightAverage(layer, horizon=2.0)
    set_to(layer, 4.0)
    average.update(1)
    averaged = 2.0 / 11 + 4.0 * 10 / 11
    parameter, kept = layer.weight, layer.weight.data_ptr()
    with average.applied():
        assert layer.weight is parameter, "the optimiser knows the parameter"
        assert layer.weight.item() == pytest.approx(averaged)
        assert average.averages["weight"].item() == 4.0
    assert (layer.weight.item(), layer.weight.data_ptr()) == (4.0, kept)
    with pytest.raises(KeyError), average.applied():
        raise KeyError
    assert layer.weight.item() == 4.0, "also where validation failed"
    assert average.averages["weight"].item() == pytest.approx(averaged)


def test_a_checkpoint_brings_them_back(tmp_path: Path) -> None:
    layer = make_layer(1.0)
    average = WeightAverage(layer, horizon=9.0)
    set_to(layer, 5.0)
    average.update(1)
    torch.save(average.state_dict(), tmp_path / "average.pkl")
    other = WeightAverage(layer, horizon=9.0)
    other.load_state_dict(torch.load(tmp_path / "average.pkl", weights_only=True))
    assert other.averages["weight"].item() == average.averages["weight"].item() != 5.0
    set_to(layer, 7.0)
    average.update(2)
    other.update(2)
    assert other.averages["weight"].item() == average.averages["weight"].item()


def test_averages_come_back_to_where_the_weights_are() -> None:
    layer = nn.Linear(2, 2, bias=False, device="meta")
    average = WeightAverage(layer, horizon=9.0)
    average.load_state_dict({"weight": torch.zeros(2, 2)})
    assert average.averages["weight"].device == layer.weight.device


@pytest.mark.parametrize("horizon", [0.0, 0.9])
def test_below_a_step_nothing_is_averaged(horizon: float) -> None:
    layer = make_layer(1.0)
    average = WeightAverage(layer, horizon)
    set_to(layer, 5.0)
    average.update(1)
    assert not average.on
    assert average.state_dict() == {}
    with average.applied():
        assert layer.weight.item() == 5.0


def make_run(folder: Path, seen: list[dict[str, Tensor]], average_epochs: float) -> Run:
    """`seen` takes what each validation saw."""
    torch.manual_seed(0)
    codes = torch.tensor([[item // 5, item % 5] for item in range(ITEMS)])
    features = ItemFeatures(codes, (4, 5), torch.randn(ITEMS, 4))
    model = UGT(features, UGTShape(ModelConfig(width=8, blocks=1, heads=2, max_events=8, dropout=0.1), 0.1))

    def validate(one: UGT) -> Validation:
        seen.append({name: value.clone() for name, value in one.state_dict().items()})
        return Validation(0.0, 0.1 * len(seen))

    config = CONFIG.model_copy(update={"average_epochs": average_epochs})
    return Run(model, worlds.markov_chain(items=ITEMS).train, config, 0, folder, "hash", validate)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / METRICS_FILE).read_text().splitlines()]


def test_validation_sees_averages_and_training_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: list[dict[str, Tensor]] = []
    averaged: list[dict[str, Tensor]] = []
    steps: list[dict[str, Tensor]] = []
    update = WeightAverage.update

    def record(average: WeightAverage, step: int) -> None:
        steps.append({name: one.detach().double() for name, one in average._parameters.items()})
        update(average, step)

    run = make_run(tmp_path / "averaged", averaged, average_epochs=1.5)
    start = {name: one.detach().double() for name, one in run.model.named_parameters()}
    with monkeypatch.context() as patch:
        patch.setattr(WeightAverage, "update", record)
        fit(run, resume=False)
    fit(make_run(tmp_path / "plain", plain, average_epochs=0.0), resume=False)
    assert losses(tmp_path / "averaged") == losses(tmp_path / "plain"), "training goes its own way"

    per_epoch = len(steps) // 3
    horizon = 1.5 * per_epoch
    for step, weights in enumerate(steps, start=1):
        decay = min(1 - 1 / horizon, step / (step + 10))
        start = {name: decay * start[name] + (1 - decay) * one for name, one in weights.items()}
        if step % per_epoch == 0:
            seen, raw = averaged[step // per_epoch - 1], plain[step // per_epoch - 1]
            for name, expected in start.items():
                np.testing.assert_allclose(seen[name].numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
                assert torch.equal(raw[name].double(), weights[name])
    final = run.model.state_dict()
    assert all(torch.equal(final[name], one) for name, one in averaged[-1].items()), "the best is an average"
    assert not torch.equal(final["norm.weight"], plain[-1]["norm.weight"])


def test_the_model_that_is_left_forgets_what_validation_kept(tmp_path: Path) -> None:
    """The last epoch is not the best one here, and its node vectors and item directions are of other weights."""
    run = make_run(tmp_path, [], average_epochs=3.0)
    worth = iter([0.9, 0.2, 0.1])

    def validate(model: UGT) -> Validation:
        with torch.inference_mode():
            model.next_code_log_probs(torch.ones(1, 16), torch.zeros(1, 1, 0, dtype=torch.long))
            model.item_directions()
        return Validation(0.0, next(worth))

    fit(Run(run.model, run.train, run.config, 0, tmp_path, "hash", validate), resume=False)
    with torch.inference_mode():
        states, nothing = torch.randn(1, 16), torch.zeros(1, 1, 0, dtype=torch.long)
        found = run.model.next_code_log_probs(states, nothing), run.model.item_scores(states)
        run.model.train().eval()
        anew = run.model.next_code_log_probs(states, nothing), run.model.item_scores(states)
    for one, other in zip(found, anew, strict=True):
        assert torch.equal(one, other)
