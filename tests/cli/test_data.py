"""`asterism data` and `asterism init` as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from asterism.cli.main import app
from asterism.config import load_run_config
from asterism.core.errors import ConfigError, DataError, StorageError
from asterism.data.locating import load_dataset

Run = Callable[..., Result]

GOOD = "user_id,item_id,timestamp\nu,a,3\nu,b,1\nv,z,2\n"


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(one) for one in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    interactions, items = tmp_path / "log.csv", tmp_path / "shop.csv"
    interactions.write_text(GOOD)
    items.write_text("item_id,title\na,A\nb,B\n")
    return interactions, items


def test_import_and_describe(run: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = run("data", "import", "--interactions", files[0], "--items", files[1], "--output", output)
    assert "1 events were out of order; all rows were sorted by time" in result.stdout
    assert "1 items are not in the catalogue and are known by id only, such as z" in result.stdout
    assert {file.name for file in output.iterdir()} == {"interactions.parquet", "items.parquet", "import.json"}
    assert load_dataset(output).items["item_id"].to_pylist() == ["a", "b", "z"]
    described = run("data", "describe", output, "--output", tmp_path / "plots")
    assert "items never touched" in described.stdout
    assert json.loads((tmp_path / "plots" / "description.json").read_text())["users"] == 2
    assert len(list((tmp_path / "plots").glob("*.png"))) == 3


@pytest.mark.parametrize("table", ["interactions.csv", "items.jsonl.gz", "users.tsv"])
def test_an_output_folder_that_holds_such_a_table_already(
    run: Run, files: tuple[Path, Path], tmp_path: Path, table: str
) -> None:
    (tmp_path / table).write_text(GOOD)
    for command in (("import", "--interactions", files[0]), ("simulate",)):
        with pytest.raises(DataError, match=f"the folder holds {table} already.*name another folder"):
            run("data", *command, "--output", tmp_path)
    assert not (tmp_path / "interactions.parquet").exists()


def test_bad_rows(run: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    files[0].write_text(GOOD + "u,a,soon\n")
    arguments = ("data", "import", "--interactions", files[0], "--output", tmp_path / "out")
    with pytest.raises(DataError, match=r"log\.csv:5, field `timestamp`"):
        run(*arguments)
    assert not (tmp_path / "out" / "interactions.parquet").exists()
    result = run(*arguments, "--on-error", "reject")
    assert "rejected 1: the timestamp is not a whole number of Unix seconds" in result.stdout
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [(one["line"], one["field"]) for one in rejected] == [(5, "timestamp")]
    summary = json.loads((tmp_path / "out" / "import.json").read_text())
    assert summary["rows_rejected"] == 1
    files[0].write_text(GOOD)
    run(*arguments)
    assert not (tmp_path / "out" / "rejects.jsonl").exists()


def test_timestamps_unit(run: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    files[0].write_text("user_id,item_id,timestamp\nu,a,1700000000123\n")
    arguments = ("data", "import", "--interactions", files[0], "--output", tmp_path / "out")
    with pytest.raises(DataError, match="--timestamps-unit ms"):
        run(*arguments)
    run(*arguments, "--timestamps-unit", "ms")
    assert load_dataset(tmp_path / "out").interactions["timestamp"].to_pylist() == [1700000000]


def test_an_output_that_is_a_file(run: Run, files: tuple[Path, Path]) -> None:
    with pytest.raises(StorageError, match="cannot be written to"):
        run("data", "import", "--interactions", files[0], "--output", files[1])


def test_one_source_of_data(run: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("data", "import", "--output", tmp_path).exit_code == 2
    both = run("data", "import", "--interactions", files[0], "--folder", tmp_path, "--output", tmp_path)
    assert both.exit_code == 2
    assert run("data", "import", "--folder", tmp_path, "--items", files[1], "--output", tmp_path).exit_code == 2


def test_download_names_what_there_is(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nothing' is not in the catalogue .*ml-1m"):
        run("data", "download", "nothing", "--output", tmp_path)


def test_init(run: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("init", "--interactions", files[0], "--items", files[1], "--output", tmp_path / "my.toml")
    assert "asterism train" in result.stdout
    config = load_run_config(tmp_path / "my.toml")
    assert (config.name, config.data.interactions, config.data.split) == ("my", "log.csv", "by_time")
