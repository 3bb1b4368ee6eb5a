"""Several processes by the launchers that users have: a language model aligned on two, and the shipped files."""

from __future__ import annotations

import json
import os
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
from command_line import environment
from end_to_end.tiny_runs import TINY_LANGUAGE

TESTS = Path(__file__).parents[1]
CONFIGS = TESTS.parent / "configs" / "distributed"
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


def launched(launcher: tuple[str, ...], *arguments: str | Path) -> None:
    """Wait for the end of a launch of `launched_runs`, which must be a good one."""
    command = [*launcher, "end_to_end.launched_runs", *map(str, arguments)]
    env = environment(PYTHONPATH=os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))))
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr


def test_a_launch_for_another_engine_is_refused(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")  # as the launcher tells its processes, on any device
    output = start.with_name("refused")
    with pytest.raises(TrainingError, match="this launch is for DeepSpeed, whose engine would replace the loop"):
        train_bundle(parse_run_config(TINY_LANGUAGE), start.parent, output)
    with pytest.raises(TrainingError, match=r"use configs/distributed/zero3\.yaml"):
        align_bundle(start, output)
    assert not output.exists()


WAYS = {"dpo": "lora", "grpo": "full"}


@pytest.fixture(scope="module")
def pairs(start: Path) -> dict[str, Path]:
    """What two processes aligned, by method."""
    asked: list[Path] = []
    for method, mode in WAYS.items():
        config, output = start.with_name(f"launched-{method}.toml"), start.with_name(f"launched-{method}-two")
        config.write_text(f'{ALIGNMENT}method = "{method}"\nmode = "{mode}"\n', encoding="utf-8")
        asked += [config, output]
    launched(TORCHRUN, "align", start, *asked)
    return dict(zip(WAYS, asked[1::2], strict=True))


@pytest.mark.parametrize("method", list(WAYS))
def test_two_processes_align_a_language_model_as_one(start: Path, pairs: dict[str, Path], method: str) -> None:
    alone = start.with_name(f"launched-{method}-one")
    assert align_bundle(start, alone, load_run_config(start.with_name(f"launched-{method}.toml")).alignment) is not None
    folders = (start, alone, pairs[method])
    before, one, two = (load_file(path / parts.LANGUAGE_MODEL / "model.safetensors") for path in folders)
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
        launched(launcher, "train", config, trained, aligned)
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
