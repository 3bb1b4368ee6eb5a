"""`asterism data`: import, describe, simulate and download data sets."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from asterism.cli.simulate import simulate

if TYPE_CHECKING:
    from asterism.data.dataset import Dataset
    from asterism.data.description import Description
    from asterism.data.importing import ImportSummary

app = typer.Typer(help="Import, describe, simulate and download data sets.", no_args_is_help=True)
app.command("simulate")(simulate)

_CATALOGUE = Path("configs") / "datasets"
_SECONDS_PER_YEAR = 365 * 86_400


class _OnError(StrEnum):
    STOP = "stop"
    REJECT = "reject"


class _Unit(StrEnum):
    SECONDS = "s"
    MILLISECONDS = "ms"
    AUTO = "auto"


_Output = Annotated[Path, typer.Option(help="Folder to write to; made if absent.")]


@app.command("import")
def import_command(
    output: _Output,
    interactions: Annotated[Path | None, typer.Option(help="File of interactions.")] = None,
    items: Annotated[Path | None, typer.Option(help="File of items.")] = None,
    users: Annotated[Path | None, typer.Option(help="File of users.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of a data set, instead of single files.")] = None,
    format: Annotated[str, typer.Option(help="auto, contract, movielens, recbole, minionerec or amazon.")] = "auto",
    on_error: Annotated[_OnError, typer.Option(help="Stop at a bad row, or set bad rows aside.")] = _OnError.STOP,
    timestamps_unit: Annotated[
        _Unit | None,
        typer.Option(help="Unit of the file's timestamps, s unless the format says; `auto` tells it by their size."),
    ] = None,
) -> None:
    """Check files against the data contract and write them as a data set."""
    from asterism.data.importing import import_dataset
    from asterism.data.readers.contract import check_output
    from asterism.data.readers.detection import read_files, read_folder
    from asterism.data.rejects import REJECTS_FILE, Rejects

    if (interactions is None) == (folder is None):
        raise typer.BadParameter("give either --interactions or --folder")
    if folder is not None and (items is not None or users is not None):
        raise typer.BadParameter("--items and --users go with --interactions; --folder brings its own")
    check_output(output)
    if folder is not None:
        raw = read_folder(folder, format)
    else:
        assert interactions is not None
        raw = read_files(interactions, items, users, format)
    with _writing_to(output):
        rejects = Rejects(on_error.value, output / REJECTS_FILE)
        imported = import_dataset(raw, rejects, None if timestamps_unit is None else timestamps_unit.value)
        imported.dataset.save(output)
        imported.summary.write(output)
    _print_summary(imported.summary, output, rejects.file)


@app.command("describe")
def describe_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set, imported or in any known format.")],
    output: Annotated[Path | None, typer.Option(help="Folder for plots (PNG) and figures (JSON).")] = None,
) -> None:
    """Print what a data set looks like, and draw it."""
    from asterism.data.description import describe
    from asterism.data.locating import load_dataset

    dataset = load_dataset(folder)
    description = describe(dataset)
    _print_description(description)
    if output is not None:
        _write_description(dataset, description, output)


@app.command("download")
def download_command(
    name: Annotated[str, typer.Argument(help="A name of the catalogue.")],
    output: _Output,
    catalogue: Annotated[Path | None, typer.Option(help="Folder of catalogue files (TOML).")] = None,
) -> None:
    """Fetch a public data set, check it and unpack it; an interrupted download goes on where it stopped."""
    from asterism.core.errors import ConfigError, MissingDependencyError

    try:
        from asterism.data.downloading import download, read_catalogue
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{error.name} is not installed; pip install 'asterism[download]'") from error
    place = catalogue or _find_catalogue()
    entries = read_catalogue(place)
    if name not in entries:
        known = ", ".join(entries) or "nothing"
        raise ConfigError(f"{name!r} is not in the catalogue {place}; it holds {known}")
    entry = entries[name]
    print(f"{entry.title} ({entry.homepage}); terms: {entry.terms}")
    with _writing_to(output):
        fetched = download(entry, output)
    for one in fetched:
        state = "checksum verified" if one.verified else "unverified: its publisher states no checksum"
        print(f"{one.path}  sha256 {one.sha256}  ({state})")
    data = output / entry.folder
    print(f"next: asterism data import --folder {data} --format {entry.format} --output DIR")


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Make a folder, and say which one it is that cannot be written to."""
    from asterism.core.errors import StorageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(f"{folder} cannot be written to ({error}); name another folder with --output") from error


def _find_catalogue() -> Path:
    from asterism.core.errors import ConfigError

    places = (_CATALOGUE, Path(__file__).parents[3] / _CATALOGUE, Path(__file__).parent / _CATALOGUE.name)
    for place in places:
        if place.is_dir():
            return place
    looked = ", ".join(str(place.absolute()) for place in places)
    raise ConfigError(f"there is no catalogue of data sets (looked at {looked}); name one with --catalogue")


def _print_summary(summary: ImportSummary, output: Path, rejects: Path | None) -> None:
    table = Table(
        "table", "rows read", "kept", "columns renamed", "columns left out", title=f"format: {summary.format}"
    )
    for name, one in summary.tables.items():
        renamed = ", ".join(f"{old} → {new}" for old, new in one.renamed_columns.items())
        table.add_row(name, f"{one.rows_read:,}", f"{one.rows_kept:,}", renamed, ", ".join(one.ignored_columns))
    console = Console()
    console.print(table)
    for reason, count in summary.rejected_by_reason.items():
        print(f"rejected {count:,}: {reason}")
    if summary.rejected_by_reason:
        print(f"rejected rows are in {rejects}")
    if summary.sorted_by_time:
        print(f"{summary.events_out_of_order:,} events were out of order; all rows were sorted by time")
    if summary.unknown_items:
        examples = ", ".join(summary.unknown_item_examples)
        print(f"{summary.unknown_items:,} items are not in the catalogue and are known by id only, such as {examples}")
    for note in summary.notes:
        print(note)
    files = " ".join(f"--{name} {shlex.quote(f'{output / name}.parquet')}" for name in summary.tables)
    print(f"wrote {output}; next: asterism init {files} --output my.toml")


def _print_description(description: Description) -> None:
    table = Table("figure", "value", title="data set")
    for name, value in _figures(description):
        table.add_row(name, value)
    Console().print(table)


def _figures(one: Description) -> list[tuple[str, str]]:
    missing = [f"{name} {share:.1%}" for name, share in one.missing_item_fields.items() if share]
    return [
        ("users", f"{one.users:,}"),
        ("items", f"{one.items:,}"),
        ("events", f"{one.events:,}"),
        ("density", f"{one.density:.4%}"),
        ("events per user", _quantiles(one.events_per_user)),
        ("events per touched item", _quantiles(one.events_per_item)),
        ("actions", ", ".join(f"{name} {count:,}" for name, count in one.actions.items())),
        ("time", f"{_moment(one.first_timestamp)} … {_moment(one.last_timestamp)}"),
        ("Gini of popularity", f"{one.popularity_gini:.3f}"),
        ("items never touched", f"{one.untouched_items_share:.1%}"),
        ("items known by id only", f"{one.unknown_items_share:.1%}"),
        ("items without a field", ", ".join(missing) or "none"),
    ]


def _quantiles(values: dict[str, float]) -> str:
    return ", ".join(f"{float(share):.0%}: {value:g}" for share, value in values.items())


def _moment(timestamp: int) -> str:
    """A date, or the bare number where timestamps are positions rather than times."""
    if timestamp < _SECONDS_PER_YEAR:
        return str(timestamp)
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M")


def _write_description(dataset: Dataset, description: Description, output: Path) -> None:
    from asterism.core.errors import MissingDependencyError

    try:
        from asterism.data.description_plots import plot_dataset
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{error.name} is not installed; pip install 'asterism[report]'") from error
    with _writing_to(output):
        files = plot_dataset(dataset, output)
        (output / "description.json").write_text(json.dumps(asdict(description), indent=2) + "\n", encoding="utf-8")
    print("wrote " + ", ".join(str(file) for file in [*files, output / "description.json"]))
