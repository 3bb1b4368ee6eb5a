"""`asterism sids`: build semantic ids from vectors, and report on those of a bundle or file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

app = typer.Typer(name="sids", help="Semantic ids: build and inspect.", no_args_is_help=True)


@app.command()
def build(
    vectors: Annotated[Path, typer.Option(help="Item vectors (items, width) as a NumPy .npy file.")],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
    config: Annotated[Path | None, typer.Option(help="A run configuration; its semantic_ids section counts.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal ids.")] = 0,
) -> None:
    """Give every row of a table of vectors its own semantic id."""
    from asterism.config import SemanticIdConfig, load_run_config
    from asterism.semantic_ids import SEMANTIC_IDS_FILE, build_semantic_ids, render_report, report, save_semantic_ids

    section = load_run_config(config).semantic_ids if config else SemanticIdConfig()
    loaded = _read_vectors(vectors)
    table, quantizer = build_semantic_ids(loaded, section, seed)
    output.mkdir(parents=True, exist_ok=True)
    save_semantic_ids(output / SEMANTIC_IDS_FILE, table, quantizer)
    Console().print(render_report(report(table, quantizer, loaded)))


@app.command(name="report")
def report_command(
    bundle: Annotated[Path, typer.Option(help="A bundle, or a folder that `asterism sids build` wrote.")],
    vectors: Annotated[Path | None, typer.Option(help="The items' vectors (.npy), for the error per level.")] = None,
) -> None:
    """Print usage, collisions and the shape of the tree; with vectors also the error of each level."""
    from asterism.semantic_ids import SEMANTIC_IDS_FILE, load_semantic_ids, render_report, report

    table, quantizer = load_semantic_ids(bundle / SEMANTIC_IDS_FILE)
    loaded = _read_vectors(vectors) if vectors else None
    Console().print(render_report(report(table, quantizer, loaded)))


def _read_vectors(path: Path) -> NDArray[np.float32]:
    import numpy as np

    from asterism.core.errors import DataError

    try:
        loaded = np.load(path, allow_pickle=False)
        return np.asarray(loaded, dtype=np.float32)
    except (OSError, EOFError, TypeError, ValueError) as error:
        raise DataError(f"this is not a .npy file of numbers ({error})", file=str(path)) from error
