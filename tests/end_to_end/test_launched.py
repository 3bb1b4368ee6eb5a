"""Several processes by the launchers that users have: a language model aligned on two, and the shipped files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from asterism.config import load_run_config, parse_run_config
from asterism.core import parts
from asterism.core.bundle import Bundle
from asterism.core.errors import TrainingError
from asterism.training.alignment.pipeline import align_bundle
from asterism.training.pipeline import train_bundle
from command_line import asterism, environment
from end_to_end.tiny_runs import TINY_LANGUAGE

CONFIGS = Path(__file__).parents[2] / "configs" / "distributed"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file")
UGT = """
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
width = 16
blocks = 1
[training]
epochs = 1
negatives = 0
[decoding]
beam = 40
[alignment]
method = "dpo"
epochs = 1
newest = 1
candidates = 10
significance = 1.0
"""
ALIGNMENT = """
name = "a"
[data]
path = "market"
[alignment]
epochs = 2
validations = 1
newest = 3
candidates = 30
learning_rate = 0.01
dropout = false
max_kl = 50.0
significance = 1.0
"""


@pytest.fixture(scope="module")
def start(workshop: Path) -> Path:
    """A language model whose training was cut short, so that alignment finds something to gain."""
    train_bundle(parse_run_config(TINY_LANGUAGE), workshop, workshop / "launched-llm")
    (workshop / "launched-ugt.toml").write_text(UGT, encoding="utf-8")
    return workshop / "launched-llm"


def launched(launcher: tuple[str, ...], *arguments: str | Path) -> str:
    """What a command that ends well says."""
    command = asterism(*arguments, launcher=launcher)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_launch_for_another_engine_is_refused(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")  # as the launcher tells its processes, on any device
    output = start.with_name("refused")
    with pytest.raises(TrainingError, match="this launch is for DeepSpeed, whose engine would replace the loop"):
        train_bundle(parse_run_config(TINY_LANGUAGE), start.parent, output)
    with pytest.raises(TrainingError, match=r"use configs/distributed/zero3\.yaml"):
        align_bundle(start, output)
    assert not output.exists()


@pytest.mark.parametrize(("method", "mode"), [("dpo", "lora"), ("grpo", "full")])
def test_two_processes_align_a_language_model_as_one(start: Path, method: str, mode: str) -> None:
    alone, pair = (start.with_name(f"launched-{method}-{count}") for count in ("one", "two"))
    settings = start.with_name(f"launched-{mode}.toml")
    settings.write_text(f'{ALIGNMENT}mode = "{mode}"\n', encoding="utf-8")
    config = load_run_config(settings).alignment.model_copy(update={"method": method})
    assert align_bundle(start, alone, config) is not None
    launched(TORCHRUN, "align", "--bundle", start, "--config", settings, "--method", method, "--output", pair)
    before, one, two = (load_file(path / parts.LANGUAGE_MODEL / "model.safetensors") for path in (start, alone, pair))
    moved = max(float((one[name] - before[name]).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert moved > 0.01
    assert apart < 0.01 * moved


@pytest.fixture(scope="module")
def shipped(start: Path) -> dict[str, tuple[Bundle, Bundle]]:
    """Bundles trained and aligned by two processes, by the name of the shipped file that launched them."""
    config, made = start.with_name("launched-ugt.toml"), {}
    for name in ("ddp", "zero3"):
        trained, aligned = start.with_name(f"launched-{name}"), start.with_name(f"launched-{name}-aligned")
        launcher = (*ACCELERATE, str(CONFIGS / f"{name}.yaml"), "-m")
        launched(launcher, "train", "--config", config, "--output", trained)
        said = launched(launcher, "align", "--bundle", trained, "--config", config, "--output", aligned)
        assert said.count("alignment ended after") == 1, "the main process alone speaks"
        made[name] = Bundle.open(trained), Bundle.open(aligned)
    return made


@pytest.mark.parametrize("name", ["ddp", "zero3"])
def test_the_shipped_files_train_and_align_on_two_processes(
    shipped: dict[str, tuple[Bundle, Bundle]], name: str
) -> None:
    trained, aligned = shipped[name]
    assert json.loads(trained.part(parts.METRICS).read_text())["processes"] == 2
    assert aligned.fact("aligned_from") == trained.version


def test_what_two_processes_cut_they_learn_as_if_it_were_whole(shipped: dict[str, tuple[Bundle, Bundle]]) -> None:
    for whole, cut in zip(shipped["ddp"], shipped["zero3"], strict=True):
        one, two = (load_file(bundle.part(parts.MODEL_WEIGHTS)) for bundle in (whole, cut))
        assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
