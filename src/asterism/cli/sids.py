"""`asterism sids`: build semantic ids from vectors, report on them, and exchange them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from asterism.core import parts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from asterism.semantic_ids import SemanticIdReport

app = typer.Typer(name="sids", help="Semantic ids: build, inspect and exchange.", no_args_is_help=True)


@app.command()
def build(
    vectors: Annotated[Path, typer.Option(help="Item vectors (items, width) as a NumPy .npy file.")],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
    config: Annotated[Path | None, typer.Option(help="A run configuration; its semantic_ids section counts.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal ids.")] = 0,
    items: Annotated[
        Path | None, typer.Option(help="The catalogue (.parquet), a row a vector; kept with the ids.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="An earlier bundle or folder whose ids items keep if they can.")
    ] = None,
) -> None:
    """Give every row of a table of vectors its own semantic id.

    With --like, or `semantic_ids.like` of the configuration, items are matched by their ids, and by row where
    neither side has a catalogue.
    """
    import pyarrow.parquet as pq

    from asterism.config import SemanticIdConfig, load_run_config
    from asterism.core import records
    from asterism.core.errors import DataError
    from asterism.semantic_ids import (
        build_semantic_ids,
        code_changes,
        load_earlier_ids,
        read_catalogue,
        read_vectors,
        render_report,
        report,
        save_semantic_ids,
    )

    section = load_run_config(config).semantic_ids if config else SemanticIdConfig()
    if like is None and config is not None and section.like is not None:
        like = config.resolve().parent / section.like
    loaded = read_vectors(vectors)
    catalogue = read_catalogue(items) if items else None
    if catalogue is not None and catalogue.num_rows != len(loaded):
        raise DataError(f"{catalogue.num_rows} items do not belong to {len(loaded)} vectors", file=str(items))
    item_ids = None if catalogue is None else catalogue[records.ITEM_ID].to_pylist()
    earlier = load_earlier_ids(like, item_ids, len(loaded), section.levels) if like else None
    table, quantizer = build_semantic_ids(loaded, section, seed, earlier)
    output.mkdir(parents=True, exist_ok=True)
    save_semantic_ids(output / parts.SEMANTIC_IDS, table, quantizer)
    if catalogue is not None:
        pq.write_table(catalogue, output / parts.ITEMS)
    Console().print(render_report(report(table, quantizer, loaded, catalogue)))
    if earlier is not None:
        Console().print(str(code_changes(earlier, table.codes)))


@app.command(name="report")
def report_command(
    bundle: Annotated[Path, typer.Option(help="A bundle, or a folder that `asterism sids` wrote.")],
    vectors: Annotated[Path | None, typer.Option(help="The items' vectors (.npy); a bundle has its own.")] = None,
    items: Annotated[Path | None, typer.Option(help="The catalogue (.parquet); a bundle has its own.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers here.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots here.")] = None,
) -> None:
    """Print usage, collisions and the shape of the tree; with vectors errors and neighbours, with items the meaning.

    A catalogue with the column `published_sid` is reported on a second time under those codes.
    """
    from asterism.semantic_ids import (
        load_semantic_ids,
        render_report,
        report,
        report_html,
        report_json,
    )

    table, quantizer = load_semantic_ids(bundle / parts.SEMANTIC_IDS)
    loaded = _vectors_of(vectors, bundle / parts.ITEM_VECTORS)
    catalogue = _items_of(items, bundle / parts.ITEMS)
    reports = {"semantic ids": report(table, quantizer, loaded, catalogue)}
    if catalogue is not None and "published_sid" in catalogue.column_names:
        reports["published_sid"] = _report_published(catalogue, loaded, str(items or bundle / parts.ITEMS))
    for name, one in reports.items():
        Console().print(render_report(one, name))
    if json_file is not None:
        json_file.write_text(report_json(reports) + "\n", encoding="utf-8")
    if html_file is not None:
        html_file.write_text(report_html(reports), encoding="utf-8")


def _vectors_of(given: Path | None, of_bundle: Path) -> NDArray[np.float32] | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from asterism.core.errors import BundleError
    from asterism.semantic_ids import read_vectors

    if given is not None:
        return read_vectors(given)
    try:
        found: NDArray[np.float32] | None = load_file(of_bundle)["vectors"] if of_bundle.is_file() else None
    except (SafetensorError, KeyError) as error:
        raise BundleError(f"{of_bundle} holds no item vectors ({error}); train the bundle again") from error
    return found


def _items_of(given: Path | None, of_bundle: Path) -> pa.Table | None:
    from asterism.core import records
    from asterism.core.errors import DataError
    from asterism.semantic_ids import read_catalogue

    if given is None:
        return read_catalogue(of_bundle) if of_bundle.is_file() else None
    found = read_catalogue(given)
    if (
        of_bundle.is_file()
        and found[records.ITEM_ID].to_pylist() != read_catalogue(of_bundle)[records.ITEM_ID].to_pylist()
    ):
        raise DataError(f"the items are not those of {of_bundle}, or not in their order", file=str(given))
    return found


def _report_published(items: pa.Table, vectors: NDArray[np.float32] | None, source: str) -> SemanticIdReport:
    from asterism.core import records
    from asterism.semantic_ids import adopt, parse_paths, report, unique_table

    texts = items["published_sid"].to_pylist()
    published = parse_paths(items[records.ITEM_ID].to_pylist(), texts, source)
    if vectors is None:
        return report(unique_table(published.paths, int(published.paths.max()) + 1), items=items)
    return report(*adopt(published.paths, vectors), vectors, items)


@app.command(name="import")
def import_command(
    index: Annotated[Path, typer.Option(help="MiniOneRec's <name>.index.json: item → tokens.")],
    vectors: Annotated[Path, typer.Option(help="The items' vectors, such as its <name>.emb-<model>.npy.")],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
) -> None:
    """Take over semantic ids made elsewhere; items that share one get a de-duplication code."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from asterism.core import records
    from asterism.semantic_ids import (
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
    save_semantic_ids(output / parts.SEMANTIC_IDS, table, quantizer)
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

    from asterism.core import records
    from asterism.semantic_ids import load_semantic_ids, write_index

    table, _ = load_semantic_ids(bundle / parts.SEMANTIC_IDS)
    catalogue = _items_of(None, bundle / parts.ITEMS)
    numbered = [str(item) for item in range(len(table))]
    item_ids = numbered if catalogue is None else catalogue[records.ITEM_ID].to_pylist()
    output.parent.mkdir(parents=True, exist_ok=True)
    write_index(output, item_ids, table)
    print(output)
    vectors = _vectors_of(None, bundle / parts.ITEM_VECTORS)
    if vectors is not None:
        beside = output.with_name(f"{output.name.removesuffix('.index.json')}.emb-asterism.npy")
        np.save(beside, vectors)
        print(beside)
