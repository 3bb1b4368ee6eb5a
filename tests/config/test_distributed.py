"""The launcher reads the shipped file, and it is of the kind that its name says."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import ComputeEnvironment, DistributedType

FOLDER = Path(__file__).parents[2] / "configs" / "distributed"
KINDS = {
    "ddp": DistributedType.MULTI_GPU,
    "zero2": DistributedType.FSDP,
    "zero3": DistributedType.FSDP,
}


def test_every_shipped_file_is_known() -> None:
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize(("name", "gathered_anew"), [("zero2", False), ("zero3", True)])
def test_what_is_cut_is_gathered_for_a_layer_or_for_a_step(name: str, gathered_anew: bool) -> None:
    settings = load_config_from_file(str(FOLDER / f"{name}.yaml")).fsdp_config
    assert settings == {"fsdp_version": 2, "fsdp_reshard_after_forward": gathered_anew}


@pytest.mark.parametrize("name", KINDS)
def test_the_launcher_reads_it(name: str) -> None:
    file = FOLDER / f"{name}.yaml"
    found = load_config_from_file(str(file))  # an unknown key is an error there
    assert found.distributed_type == KINDS[name]
    assert found.compute_environment == ComputeEnvironment.LOCAL_MACHINE
    assert (found.num_processes, found.mixed_precision) == (2, "no")
    assert f"--config_file configs/distributed/{name}.yaml" in file.read_text(encoding="utf-8")
