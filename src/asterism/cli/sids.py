"""`asterism sids`: build semantic ids from vectors, report on them, and exchange them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(name="sids", help="Semantic ids: build, inspect and exchange.", no_args_is_help=True)


@app.command()
def build(
    vectors: Annotated[Path, typer.Option(help="Item vectors (items, width) as a NumPy .npy file.")],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
    config: Annotated[Path | None, typer.Option(help="A run configuration; its semantic_ids section counts.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal ids.")] = 0,
) -> None:
    """Give every row of a table of vectors its own semantic id."""
    from asterism.config import SemanticIdConfig, load_run_config
    from asterism.semantic_ids import (
        SEMANTIC_IDS_FILE,
        build_semantic_ids,
        read_vectors,
        render_report,
        report,
        save_semantic_ids,
    )

    section = load_run_config(config).semantic_ids if config else SemanticIdConfig()
    loaded = read_vectors(vectors)
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
    from asterism.semantic_ids import SEMANTIC_IDS_FILE, load_semantic_ids, read_vectors, render_report, report

    table, quantizer = load_semantic_ids(bundle / SEMANTIC_IDS_FILE)
    loaded = read_vectors(vectors) if vectors else None
    Console().print(render_report(report(table, quantizer, loaded)))


@app.command(name="import")
def import_command(
    index: Annotated[Path, typer.Option(help="MiniOneRec's <name>.index.json: item → tokens.")],
    vectors: Annotated[Path, typer.Option(help="The items' vectors, such as its <name>.emb-<model>.npy.")],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
) -> None:
    """Take over semantic ids made elsewhere; items that share one get a de-duplication code."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from asterism.core import parts, records
    from asterism.semantic_ids import (
        SEMANTIC_IDS_FILE,
        adopt,
        read_index,
        read_vectors,
        render_report,
        report,
        save_semantic_ids,
    )

    found, loaded = read_index(index), read_vectors(vectors)
    table, quantizer = adopt(found.paths, loaded)
    output.mkdir(parents=True, exist_ok=True)
    save_semantic_ids(output / SEMANTIC_IDS_FILE, table, quantizer)
    pq.write_table(pa.table({records.ITEM_ID: found.item_ids}), output / parts.ITEMS)
    Console().print(render_report(report(table, quantizer, loaded)))


@app.command()
def export(
    bundle: Annotated[Path, typer.Option(help="A bundle, or a folder that `asterism sids` wrote.")],
    output: Annotated[Path, typer.Option(help="The .index.json to write; a bundle's vectors go beside it as .npy.")],
) -> None:
    """Write semantic ids as MiniOneRec reads them, and a bundle's item vectors as `<name>.emb-asterism.npy`.

    A folder without a catalogue has its items numbered from 0.
    """
    import numpy as np
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    from asterism.core import parts, records
    from asterism.semantic_ids import SEMANTIC_IDS_FILE, load_semantic_ids, write_index

    table, _ = load_semantic_ids(bundle / SEMANTIC_IDS_FILE)
    catalogue, vectors = bundle / parts.ITEMS, bundle / parts.ITEM_VECTORS
    numbered = [str(item) for item in range(len(table))]
    item_ids = pq.read_table(catalogue)[records.ITEM_ID].to_pylist() if catalogue.is_file() else numbered
    output.parent.mkdir(parents=True, exist_ok=True)
    write_index(output, item_ids, table)
    print(output)
    if vectors.is_file():
        beside = output.with_name(f"{output.name.removesuffix('.index.json')}.emb-asterism.npy")
        np.save(beside, load_file(vectors)["vectors"])
        print(beside)
