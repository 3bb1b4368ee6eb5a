"""What several processes of one launch do one after the other: to launch them costs more than what they train here.

`train CONFIG TRAINED ALIGNED` trains a bundle and aligns it; `align START CONFIG OUTPUT ...` aligns a bundle by each of
several configurations.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate import PartialState

from asterism.config import load_run_config
from asterism.training.alignment.pipeline import align_bundle
from asterism.training.launches import leave
from asterism.training.pipeline import train_bundle


def trained(config: Path, bundle: Path, aligned: Path) -> None:
    run = load_run_config(config)
    train_bundle(run, config.parent, bundle)
    PartialState().wait_for_everyone()  # the main process writes it
    align_bundle(bundle, aligned, run.alignment)


def aligned(start: Path, *pairs: Path) -> None:
    for config, output in zip(pairs[::2], pairs[1::2], strict=True):
        align_bundle(start, output, load_run_config(config).alignment)


if __name__ == "__main__":
    {"train": trained, "align": aligned}[sys.argv[1]](*map(Path, sys.argv[2:]))
    leave()
