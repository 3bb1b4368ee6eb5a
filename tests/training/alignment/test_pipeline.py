"""From a bundle to its aligned bundle: what changes, what stays, and bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asterism.config import AlignmentConfig, RunConfig, parse_run_config
from asterism.config.run import DataConfig
from asterism.core import parts
from asterism.core.bundle import Bundle
from asterism.core.errors import BundleError, ConfigError, TrainingError
from asterism.data.locating import load_dataset
from asterism.data.market import Market, MarketConfig
from asterism.data.sequences import Cases
from asterism.data.splits import split_dataset
from asterism.decoding.loading import load_recommender
from asterism.training.alignment import pipeline
from asterism.training.alignment.outcome import LOG_FILE, AlignmentResult
from asterism.training.pipeline import train_bundle
from command_line import run


def align_bundle(*given: Any, **more: Any) -> tuple[Bundle, AlignmentResult]:
    """As the main process has it."""
    done = pipeline.align_bundle(*given, **more)
    assert done is not None
    return done


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A market and a bundle whose training was cut short, so that alignment finds something to gain."""
    folder = tmp_path_factory.mktemp("workshop")
    Market.generate(MarketConfig(users=120, items=100, days=14)).save(folder / "market")
    train_bundle(run_config({"beam": 40, "choose_weights": False}), folder, folder / "start")
    return folder


def run_config(decoding: dict[str, object]) -> RunConfig:
    raw = {
        "name": "market",
        "data": {"path": "market"},
        "embeddings": {"text_model": "tfidf", "width": 16},
        "semantic_ids": {"codes": 8},
        "model": {"width": 16, "blocks": 1, "dropout": 0.0},
        "training": {"epochs": 1, "learning_rate": 0.01, "warmup_steps": 1, "negatives": 0, "average_epochs": 0},
        "decoding": decoding,
    }
    return parse_run_config(raw, source="the test")


def settings(**changes: object) -> AlignmentConfig:
    usual = {"candidates": 30, "epochs": 3, "validations": 1, "learning_rate": 0.01, "newest": 20, "significance": 1.0}
    return AlignmentConfig.model_validate(usual | {"max_kl": 50.0} | changes)


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_an_aligned_bundle_has_new_weights_and_says_where_it_is_from(workshop: Path, method: str) -> None:
    config = settings(method=method, rejected="both")
    wishes: dict[str, Any] = {}  # for GRPO something that is surely to be gained: items late in the catalogue
    if method == "grpo":
        wishes = {"reward": lambda drawn: drawn.items / 100, "worth": lambda cases, lists: lists.mean(axis=1)}
    bundle, result = align_bundle(workshop / "start", workshop / method, config, **wishes)
    start = Bundle.open(workshop / "start")
    assert result.improved
    assert result.best_validation > result.start_validation
    assert bundle.fact("aligned_from") == start.version
    assert bundle.fact("alignment_stopped") == result.stopped == "all 3 epochs are done"
    assert bundle.version != start.version
    same = {name for name, part in start.manifest.parts.items() if bundle.manifest.parts.get(name) == part}
    assert {parts.ITEMS, parts.HISTORIES, parts.SEMANTIC_IDS, parts.ITEM_VECTORS, parts.EMBEDDER} <= same
    assert parts.MODEL_WEIGHTS not in same
    trained = load_recommender(bundle)
    assert trained.config.alignment == config
    metrics = json.loads(bundle.part(parts.METRICS).read_text())
    assert metrics["alignment"]["best_validation"] == result.best_validation
    assert (workshop / f"{method}.run" / LOG_FILE).read_text().count("\n") == 3
    again, _ = align_bundle(workshop / "start", workshop / f"{method}-again", config, **wishes)
    assert again.manifest.parts[parts.MODEL_WEIGHTS] == bundle.manifest.parts[parts.MODEL_WEIGHTS], "by seed"


def test_without_a_gain_the_result_is_the_start(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def nothing_is_better(cases: Cases, lists: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.zeros(len(cases))

    bundle, result = align_bundle(workshop / "start", workshop / "same", settings(epochs=1), worth=nothing_is_better)
    start = Bundle.open(workshop / "start")
    assert not result.improved
    assert bundle.manifest.parts == start.manifest.parts
    assert bundle.version == start.version
    assert bundle.fact("alignment_improved") is False
    assert "no step was better than the start on validation, so the result is the start, unchanged" in (
        capsys.readouterr().err
    )


def test_a_bundle_of_other_data_is_refused(workshop: Path, tmp_path: Path) -> None:
    Market.generate(MarketConfig(users=60, items=100, days=10)).save(tmp_path / "other")
    with pytest.raises(BundleError, match="name the data it was trained on with --data"):
        align_bundle(workshop / "start", tmp_path / "out", settings(), data=tmp_path / "other")
    assert not (tmp_path / "out").exists()


def test_the_start_is_not_replaced(workshop: Path) -> None:
    with pytest.raises(BundleError, match="is the bundle to start from"):
        align_bundle(workshop / "start", workshop / "start", settings())


def test_a_policy_that_runs_away_is_stopped(workshop: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"above alignment\.max_kl 0\.0001"):
        align_bundle(workshop / "start", tmp_path / "out", settings(method="grpo", max_kl=1e-4))
    assert not (tmp_path / "out").exists()


def test_what_runs_away_after_a_gain_is_written_with_the_gain_and_says_so(
    workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late: dict[str, Any] = {"reward": lambda drawn: drawn.items / 100, "worth": lambda cases, lists: lists.mean(axis=1)}
    config = settings(method="grpo", max_kl=0.1, validations=8)
    bundle, result = align_bundle(workshop / "start", workshop / "runaway", config, **late)
    assert result.improved
    assert 0 < result.best_step < result.steps
    said = f"it diverged: the divergence from the start became .*, above alignment.max_kl 0.1, at step {result.steps};"
    assert re.match(said, bundle.fact("alignment_stopped"))
    assert re.search(f"alignment ended after {result.steps} steps and [0-9]+ s: {said}", capsys.readouterr().err)
    assert bundle.version != Bundle.open(workshop / "start").version
    again, _ = align_bundle(workshop / "start", workshop / "runaway", config, resume=True, **late)
    assert again.manifest.parts[parts.MODEL_WEIGHTS] == bundle.manifest.parts[parts.MODEL_WEIGHTS]
    assert again.fact("alignment_stopped") == bundle.fact("alignment_stopped")


def test_an_order_that_asks_nothing_of_the_policy_is_aligned_by_codes_alone(workshop: Path) -> None:
    weights = {"beam": 40, "choose_weights": False, "item_weight": 0, "code_weight": 0, "content_weight": 1}
    train_bundle(run_config(weights), workshop, workshop / "by-content")
    with pytest.raises(TrainingError, match=r"no weight for item head or codes, .* set `alignment\.score` = 'codes'"):
        align_bundle(workshop / "by-content", workshop / "nothing", settings(epochs=1))
    assert not (workshop / "nothing").exists()
    _, result = align_bundle(workshop / "by-content", workshop / "codes", settings(epochs=1, score="codes"))
    assert result.steps > 0


def test_a_wish_that_alignment_would_not_hear_is_a_sentence_at_once(workshop: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"`alignment\.rejected` = 'logged' reads what was rejected near training events"
    ):
        align_bundle(workshop / "start", workshop / "nothing", settings(held_out=0.5, rejected="logged"))


def test_the_command(workshop: Path) -> None:
    (workshop / "run.toml").write_text(
        'name = "a"\n[data]\npath = "market"\n[alignment]\nepochs = 1\nvalidations = 1\nsignificance = 1.0\n'
        "learning_rate = 0.01\nmax_kl = 50.0\n[alignment.rewards]\naction = 0.5\n"
    )
    output = workshop / "by-command"
    done = run(
        "align", "--bundle", workshop / "start", "--config", workshop / "run.toml", "--method", "grpo", "--out", output
    )
    assert done.returncode == 0, done.stderr
    assert Bundle.open(output).fact("alignment_method") == "grpo"
    assert "start: validation NDCG@10" in done.stderr
    assert "groups with signal" in done.stderr
    assert Bundle.open(output).version in done.stdout
    measured = run("evaluate", "--bundle", output, "--json", workshop / "e.json")
    assert measured.returncode == 0, measured.stderr


def test_held_out_events_are_asked_and_the_others_steer(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settings(method="dpo", held_out=0.25, hold_diversity=True, epochs=1)
    _, result = align_bundle(workshop / "start", workshop / "held-out", config)
    said = capsys.readouterr().err
    cases = len(split_dataset(load_dataset(workshop / "market"), DataConfig(path="market")).validation)
    assert f"of {cases - round(0.25 * cases)} cases, diversity 0." in said
    assert result.steps == -(-round(0.25 * cases) // 64)
