"""`asterism init`: a commented run configuration for a user's own files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def init_command(
    interactions: Annotated[Path, typer.Option(help="File of interactions: CSV, TSV, Parquet or JSON lines.")],
    output: Annotated[Path, typer.Option(help="The configuration to write (TOML).")],
    items: Annotated[Path | None, typer.Option(help="File of items.")] = None,
    users: Annotated[Path | None, typer.Option(help="File of users.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a configuration that is already there.")] = False,
) -> None:
    """Read your files, recognise their columns and write a configuration that trains as it stands."""
    from asterism.data.initialise import initialise, write_config

    initialised = initialise(interactions, items, users, output)
    write_config(initialised, output, overwrite)
    choices = initialised.choices
    print(f"{choices.users:,} users, {choices.items:,} items, {choices.events:,} events; split: {choices.split}")
    for table, names in choices.renamed.items():
        for old, new in names.items():
            print(f"{table}: the column `{old}` is read as `{new}`")
    unknown = initialised.summary.unknown_items
    if unknown:
        print(f"{unknown:,} items are not in the catalogue and are known by id only")
    for note in initialised.summary.notes:
        print(note)
    if not choices.trainable:
        print(
            "too few events: no split leaves a user with two events to learn from and others to validate and test on, "
            "so training will refuse these data",
            file=sys.stderr,
        )
    print(f"wrote {output}; next: asterism train --config {output} --output runs/{output.stem}")
