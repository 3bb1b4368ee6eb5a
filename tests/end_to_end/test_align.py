"""Alignment by the commands a user types: killed and resumed, interrupted, on two processes, of a language model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from asterism.config import AlignmentConfig, parse_run_config
from asterism.core import parts
from asterism.core.bundle import Bundle
from asterism.core.errors import TrainingError
from asterism.decoding.loading import load_recommender
from asterism.models.llm import LLM
from asterism.training.alignment.outcome import LOG_FILE
from asterism.training.alignment.pipeline import align_bundle
from asterism.training.pipeline import train_bundle
from command_line import asterism, environment, run
from end_to_end.killing import killed_in_the_middle
from end_to_end.tiny_runs import TINY, TINY_LANGUAGE

LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
ALIGNMENT = """
name = "a"
[data]
path = "market"
[alignment]
method = "grpo"
epochs = 4
validations = 2
newest = 3
candidates = 30
learning_rate = 0.01
dropout = false
max_kl = 50.0
significance = 1.0
"""
UGT: dict[str, Any] = {
    **TINY,
    "model": {"width": 16, "blocks": 1, "dropout": 0.1},
    "training": {**TINY["training"], "negatives": 0},
}

#: A language model's run as a file, with words to learn beside codes.
LANGUAGE_FILE = """
name = "market"
[data]
path = "market"
[embeddings]
text_model = "tfidf"
width = 16
[semantic_ids]
codes = 8
levels = 3
[model]
kind = "llm"
max_events = 10
[llm]
batch_tokens = 512
[llm.shape]
width = 16
layers = 1
heads = 2
key_value_heads = 1
feed_forward = 24
vocabulary = 300
[llm.tasks]
title_to_item = 0.3
item_to_title = 0.3
[training]
epochs = 1
learning_rate = 0.01
warmup_steps = 1
average_epochs = 0
[decoding]
beam = 40
choose_weights = false
"""


@pytest.fixture(scope="module")
def starts(workshop: Path) -> Path:
    """The workshop with two bundles whose training was cut short, so that alignment finds something to gain."""
    train_bundle(parse_run_config(UGT), workshop, workshop / "short-ugt")
    train_bundle(parse_run_config(TINY_LANGUAGE), workshop, workshop / "short-llm")
    (workshop / "align.toml").write_text(ALIGNMENT, encoding="utf-8")
    return workshop


def command(starts: Path, output: Path, *more: str, launcher: tuple[str, ...] = (sys.executable, "-m")) -> list[str]:
    given = ("align", "--bundle", starts / "short-ugt", "--config", starts / "align.toml", "--output", output, *more)
    return asterism(*given, launcher=launcher)


@pytest.fixture(scope="module")
def aligned(starts: Path) -> Path:
    done = subprocess.run(
        command(starts, starts / "whole"), env=environment(), capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert Bundle.open(starts / "whole").fact("alignment_improved") is True, done.stderr
    return starts / "whole"


def test_a_killed_alignment_resumes_to_the_same_weights(starts: Path, aligned: Path) -> None:
    output = starts / "killed"
    log = starts / "killed.run" / LOG_FILE
    whole = (starts / "whole.run" / LOG_FILE).read_text().count("\n")
    killed_in_the_middle(command(starts, output), output, log, after=3, whole=whole)
    done = subprocess.run(
        command(starts, output, "--resume"), env=environment(), capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    found, expected = (Bundle.open(one).manifest.parts[parts.MODEL_WEIGHTS] for one in (output, aligned))
    assert found == expected
    logs = [(starts / f"{one}.run" / LOG_FILE).read_text().splitlines() for one in ("killed", "whole")]
    steps = [[json.loads(line)["step"] for line in log] for log in logs]
    assert steps[0] == steps[1]


def test_ctrl_c_writes_the_best_so_far(starts: Path) -> None:
    output = starts / "interrupted"
    (starts / "endless.toml").write_text(ALIGNMENT.replace("epochs = 4", "epochs = 1000\npatience = 1000"))
    endless = [str(starts / "endless.toml") if one.endswith("align.toml") else one for one in command(starts, output)]
    child = subprocess.Popen(
        endless,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert child.stderr is not None
        assert next(line for line in child.stderr if line.rstrip().endswith("*"))
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 130, said
    assert said.splitlines()[-1].startswith("interrupted; this is the best so far, and the same command with --resume")
    assert Bundle.open(output).fact("alignment_improved") is True


@pytest.mark.parametrize("kind", ["grpo", "dpo"])
def test_two_processes_align_as_one(starts: Path, aligned: Path, kind: str) -> None:
    whole = aligned
    if kind == "dpo":
        whole = starts / "whole-dpo"
        config = AlignmentConfig.model_validate({**_section(), "method": "dpo"})
        align_bundle(starts / "short-ugt", whole, config)
    output = starts / f"pair-{kind}"
    done = subprocess.run(
        command(starts, output, "--method", kind, launcher=LAUNCHER),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("alignment ended after") == 1, "the main process alone speaks"
    start, one, two = (load_file(path / parts.MODEL_WEIGHTS) for path in (starts / "short-ugt", whole, output))
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert moved > 0.01
    assert apart < 0.01 * moved


def _section() -> dict[str, Any]:
    lines = ALIGNMENT.split("[alignment]")[1].strip().splitlines()
    return {key: json.loads(value) for key, value in (line.split(" = ") for line in lines)}


def wishes() -> dict[str, Any]:
    """Something that is surely to be gained: items late in the catalogue."""
    return {"reward": lambda drawn: drawn.items / 100, "worth": lambda cases, lists: lists.mean(axis=1)}


@pytest.mark.parametrize("mode", ["full", "lora", "embeddings"])
def test_a_language_model_is_aligned_by_what_may_learn(starts: Path, mode: str) -> None:
    config = AlignmentConfig.model_validate({**_section(), "mode": mode, "epochs": 2, "validations": 1})
    done = align_bundle(starts / "short-llm", starts / f"llm-{mode}", config, **wishes())
    assert done is not None
    bundle, result = done
    assert result.improved
    trained = load_recommender(bundle)
    assert isinstance(trained.policy, LLM)
    start, now = (
        load_file(starts / one / parts.LANGUAGE_MODEL / "model.safetensors") for one in ("short-llm", f"llm-{mode}")
    )
    assert start.keys() == now.keys(), "a plain folder of the library"
    changed = {name for name in start if not torch.equal(start[name], now[name])}
    words = torch.ones(len(trained.policy.tokenizer), dtype=torch.bool)
    words[trained.policy.code_ids()] = False
    (embedding,) = (name for name in start if "embed_tokens" in name)
    assert embedding in changed
    assert torch.equal(start[embedding][words], now[embedding][words]) is (mode != "full")
    if mode == "embeddings":
        assert changed == {embedding}
    else:
        assert any("proj" in name for name in changed)
    assert any("norm" in name for name in changed) is (mode == "full")


def test_dpo_of_a_language_model_by_the_command_and_what_does_not_gain(starts: Path) -> None:
    output = starts / "llm-dpo"
    done = run(
        "align", "--bundle", starts / "short-llm", "--config", starts / "align.toml", "--method", "dpo", "--out", output
    )
    assert done.returncode == 0, done.stderr
    assert "start: validation NDCG@10" in done.stderr
    assert Bundle.open(output).fact("aligned_from") == Bundle.open(starts / "short-llm").version
    measured = run("evaluate", "--bundle", output, "--no-baselines", "--json", starts / "e.json")
    assert measured.returncode == 0, measured.stderr
    nothing = {**wishes(), "worth": lambda cases, lists: 0.0 * lists.mean(axis=1)}
    config = AlignmentConfig.model_validate({**_section(), "epochs": 1})
    same = align_bundle(starts / "short-llm", starts / "llm-same", config, **nothing)
    assert same is not None
    assert same[0].manifest.parts == Bundle.open(starts / "short-llm").manifest.parts


def test_a_model_that_may_not_learn_is_said_in_a_sentence(starts: Path) -> None:
    config = AlignmentConfig.model_validate({**_section(), "mode": "none"})
    with pytest.raises(
        TrainingError, match=r"nothing of the policy may learn; give `alignment\.mode` full, lora or emb"
    ):
        align_bundle(starts / "short-llm", starts / "llm-none", config)


def test_two_processes_fine_tune_a_language_model_as_one(starts: Path) -> None:
    """Two processes with half the tokens a step take the steps of one with all: 24 batches in twelve steps, or 12."""
    found = []
    for name, tokens, launcher in (("one", 1000, (sys.executable, "-m")), ("two", 500, LAUNCHER)):
        (starts / f"{name}.toml").write_text(LANGUAGE_FILE.replace("batch_tokens = 512", f"batch_tokens = {tokens}"))
        done = subprocess.run(
            asterism("train", "--config", starts / f"{name}.toml", "--output", starts / name, launcher=launcher),
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr
        found.append(load_file(starts / name / parts.LANGUAGE_MODEL / "model.safetensors"))
    apart = max(float((one - found[1][name]).abs().max()) for name, one in found[0].items())
    assert apart < 1e-3
