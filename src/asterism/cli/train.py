"""`asterism train`: from a configuration to a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Option(help="The run's TOML file; `asterism init` writes one.")],
    output: Annotated[Path, typer.Option(help="Where the bundle goes; checkpoints and metrics go to <output>.run.")],
    resume: Annotated[bool, typer.Option(help="Go on from the last finished epoch of an interrupted run.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Instead of the configuration's seed.")] = None,
) -> None:
    """Train a recommender and write its bundle."""
    from asterism.config import load_run_config
    from asterism.core.memory import keep_freed_memory
    from asterism.training.launches import leave
    from asterism.training.pipeline import train_bundle

    run = load_run_config(config)
    if seed is not None:
        run = run.model_copy(update={"seed": seed})
    keep_freed_memory()
    try:
        bundle = train_bundle(run, config.resolve().parent, output, resume=resume)
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on from the last finished epoch", file=sys.stderr)
        raise typer.Exit(130) from None
    if bundle is not None:
        print(f"bundle {bundle.version} is in {output}")
    leave()
