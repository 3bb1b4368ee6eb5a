"""The loop on a market whose answer is known: it learns it, resumes to the same weights, and stops with a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

import worlds
from asterism.config import ModelConfig, TrainingConfig
from asterism.core.errors import TrainingError
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.split import Split
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from asterism.training.checkpoint import Checkpoints, Progress
from asterism.training.loop import FitResult, Run, Validation, fit
from asterism.training.monitor import METRICS_FILE
from asterism.training.validation import validator

ITEMS = 30
CODES = np.array([[item // 6, item % 6, 0] for item in range(ITEMS)])
SIZES = (5, 6, 2)
CONFIG = TrainingConfig(epochs=12, patience=12, batch_users=8, learning_rate=5e-3, warmup_steps=5, negatives=0)


class Interrupted(Exception):
    """What a test raises in place of a power cut."""


def make_run(folder: Path, split: Split, config: TrainingConfig = CONFIG, stop_in_epoch: int | None = None) -> Run:
    torch.manual_seed(0)
    features = ItemFeatures(torch.from_numpy(CODES), SIZES, torch.randn(ITEMS, 4))
    model = UGT(features, UGTShape(ModelConfig(width=16, blocks=1, heads=2, max_events=8, dropout=0.1), 0.1))
    table = SemanticIdTable(CODES, SIZES)
    score = validator(split.validation, table, worlds.run_config(training=config))
    epochs_seen = 0

    def validate(one: UGT) -> Validation:
        nonlocal epochs_seen
        epochs_seen += 1
        if epochs_seen == stop_in_epoch:
            raise Interrupted
        return score(one)

    return Run(model, split.train, config, 0, folder, "hash", validate)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def train(run: Run, *, resume: bool = False) -> tuple[FitResult, dict[str, torch.Tensor]]:
    return fit(run, resume=resume), weights(run)


def test_it_learns_the_successor_of_every_item(tmp_path: Path) -> None:
    run = make_run(tmp_path, worlds.markov_chain(items=ITEMS))
    result, _ = train(run)
    assert result.best_ndcg_at_10 > 0.95, "every item has one successor"
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    assert len(lines) == result.epochs
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_best_epoch_is_what_remains(tmp_path: Path) -> None:
    split = worlds.markov_chain(items=ITEMS)
    run = make_run(tmp_path, split)
    scripted = iter([0.2, 0.9, 0.3, 0.1, 0.0])
    kept: list[dict[str, torch.Tensor]] = []

    def validate(model: UGT) -> Validation:
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        return Validation(0.0, next(scripted))

    scripted_run = Run(run.model, run.train, CONFIG.model_copy(update={"patience": 3}), 0, tmp_path, "hash", validate)
    result, final = train(scripted_run)
    assert (result.epochs, result.best_epoch, result.best_ndcg_at_10) == (5, 2, 0.9)
    assert "has not risen for 3 epochs" in result.stopped
    for name, value in kept[1].items():
        torch.testing.assert_close(final[name], value, rtol=0, atol=0)


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    split = worlds.markov_chain(items=ITEMS)
    config = CONFIG.model_copy(update={"epochs": 5})
    _, straight = train(make_run(tmp_path / "straight", split, config))
    with pytest.raises(Interrupted):
        train(make_run(tmp_path / "broken", split, config, stop_in_epoch=4))
    result, resumed = train(make_run(tmp_path / "broken", split, config), resume=True)
    assert result.epochs == 5
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)
    epochs = [line.split(",")[0] for line in (tmp_path / "broken" / METRICS_FILE).read_text().splitlines()]
    assert epochs == [f'{{"epoch": {epoch}' for epoch in range(1, 6)], "no epoch twice, none missing"


@pytest.mark.parametrize("written", [False, True])
def test_a_run_cut_off_beside_a_checkpoint_has_every_epoch_in_its_log(
    written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = worlds.markov_chain(items=ITEMS)
    config = CONFIG.model_copy(update={"epochs": 4})
    save = Checkpoints.save

    def cut_off(self: Checkpoints, accelerator: Accelerator, progress: Progress, best: dict[str, torch.Tensor]) -> None:
        if progress.epoch < 3 or written:
            save(self, accelerator, progress, best)
        if progress.epoch == 3:
            raise Interrupted

    monkeypatch.setattr(Checkpoints, "save", cut_off)
    with pytest.raises(Interrupted):
        train(make_run(tmp_path, split, config))
    monkeypatch.undo()
    train(make_run(tmp_path, split, config), resume=True)
    lines = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    split = worlds.markov_chain(items=ITEMS)
    config = CONFIG.model_copy(update={"epochs": 1})
    train(make_run(tmp_path, split, config))
    other = make_run(tmp_path, split, config)
    changed = Run(other.model, other.train, other.config, 0, tmp_path, "another hash", other.validate)
    with pytest.raises(TrainingError, match="written by another configuration"):
        fit(changed, resume=True)


def test_without_resume_a_run_starts_anew(tmp_path: Path) -> None:
    split = worlds.markov_chain(items=ITEMS)
    config = CONFIG.model_copy(update={"epochs": 2})
    _, first = train(make_run(tmp_path, split, config))
    _, second = train(make_run(tmp_path, split, config))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)
    assert len((tmp_path / METRICS_FILE).read_text().splitlines()) == 2


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path, worlds.markov_chain(items=ITEMS))
    with torch.no_grad():
        run.model.norm.weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at step 0 in epoch 1; lower the learning rate"):
        fit(run, resume=False)


def test_weights_that_diverged_in_an_epochs_last_step_stop_with_a_sentence(tmp_path: Path) -> None:
    one_step = CONFIG.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0, "batch_users": 10_000})
    with pytest.raises(TrainingError, match=r"validation failed .* in epoch 1; lower the learning rate \(now 1e\+30\)"):
        fit(make_run(tmp_path, worlds.markov_chain(items=ITEMS), one_step), resume=False)


def test_a_run_that_had_stopped_early_is_not_trained_on(tmp_path: Path) -> None:
    split = worlds.markov_chain(items=ITEMS)
    patient = CONFIG.model_copy(update={"patience": 1, "learning_rate": 1e-9})
    first, ended = train(make_run(tmp_path, split, patient))
    again = make_run(tmp_path, split, patient)
    second = fit(again, resume=True)
    assert (second.epochs, second.stopped) == (first.epochs, first.stopped)
    for name, value in weights(again).items():
        assert torch.equal(value, ended[name]), name


def test_resuming_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, worlds.markov_chain(items=ITEMS), CONFIG.model_copy(update={"epochs": 1}))
    assert fit(run, resume=True).epochs == 1
    assert f"there is no checkpoint in {tmp_path}; training starts anew" in capsys.readouterr().err


def test_an_epoch_is_one_line_of_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(make_run(tmp_path, worlds.markov_chain(items=ITEMS), CONFIG.model_copy(update={"epochs": 2})), resume=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(line.endswith("left") for line in lines)


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    split = worlds.leave_one_out([[0, 1, 2], [3, 4, 5]], ITEMS)
    with pytest.raises(TrainingError, match="no user has two training events"):
        fit(make_run(tmp_path, split), resume=False)


def test_the_checkpoint_holds_the_best_weights(tmp_path: Path) -> None:
    run = make_run(tmp_path, worlds.markov_chain(items=ITEMS), CONFIG.model_copy(update={"epochs": 2}))
    _, final = train(run)
    stored = load_file(tmp_path / "checkpoint" / "best.safetensors")
    for name, value in final.items():
        torch.testing.assert_close(stored[name], value, rtol=0, atol=0)
