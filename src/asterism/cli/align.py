"""`asterism align`: from a bundle to one whose policy follows preferences or rewards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def align(
    bundle: Annotated[Path, typer.Option(help="The bundle to start from; it stays as it is.")],
    output: Annotated[Path, typer.Option("--output", "--out", help="Where the aligned bundle goes.")],
    config: Annotated[
        Path | None, typer.Option(help="A run's TOML file whose alignment section replaces the bundle's.")
    ] = None,
    method: Annotated[
        Literal["dpo", "grpo"] | None, typer.Option(help="Instead of the configuration's alignment.method.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data's folder, if it is no longer where training saw it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Instead of the bundle's seed.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the newest validation of an interrupted run.")] = False,
) -> None:
    """Align a trained policy by preferences (DPO) or rewards (GRPO); what does not gain on validation is not kept."""
    from asterism.config import load_run_config
    from asterism.core.bundle import Bundle
    from asterism.core.memory import keep_freed_memory
    from asterism.decoding.loading import load_config
    from asterism.training.alignment.pipeline import align_bundle
    from asterism.training.launches import leave

    run = load_config(Bundle.open(bundle)) if config is None else load_run_config(config)
    alignment = run.alignment if method is None else run.alignment.model_copy(update={"method": method})
    keep_freed_memory()
    try:
        done = align_bundle(bundle, output, alignment, data=data, seed=seed, resume=resume)
    except KeyboardInterrupt:
        print(
            "interrupted; nothing better than the start was found yet, so nothing was written; the same command with "
            "--resume goes on from the newest validation",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    if done is None:
        leave()
        return
    aligned, result = done
    kept = "aligned bundle" if result.improved else "bundle as it was,"
    print(f"{kept} {aligned.version} is in {output}")
    if result.interrupted:
        print(
            "interrupted; this is the best so far, and the same command with --resume goes on",
            file=sys.stderr,
        )
        raise typer.Exit(130)
    leave()
