"""`asterism sids` from a file of vectors to a table on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from asterism.cli.sids import app
from asterism.core.errors import BundleError, ConfigError, DataError
from asterism.semantic_ids import load_semantic_ids

run = CliRunner(env={"COLUMNS": "160"}).invoke


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.npy"
    np.save(path, np.random.default_rng(0).normal(size=(50, 4)))
    return path


def test_build_writes_ids_that_report_reads(tmp_path: Path, vectors: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('name = "t"\n[data]\npath = "x"\n[semantic_ids]\nlevels = 3\ncodes = 8\n')
    built = run(app, ["build", "--vectors", str(vectors), "--output", str(tmp_path / "out"), "--config", str(config)])
    assert built.exit_code == 0, built.output
    table, _ = load_semantic_ids(tmp_path / "out" / "semantic_ids.safetensors")
    assert (len(table), table.codebook_sizes[:2]) == (50, (8, 8))
    shown = run(app, ["report", "--bundle", str(tmp_path / "out"), "--vectors", str(vectors)])
    assert shown.output == built.output
    assert "50 items" in shown.output


def test_faults_are_named(tmp_path: Path, vectors: Path) -> None:
    (tmp_path / "text.npy").write_text("not numbers")
    wrong = run(app, ["build", "--vectors", str(tmp_path / "text.npy"), "--output", str(tmp_path)])
    assert isinstance(wrong.exception, DataError)
    absent = run(app, ["report", "--bundle", str(tmp_path)])
    assert isinstance(absent.exception, BundleError)
    config = ["--config", str(tmp_path / "none.toml")]
    missing = run(app, ["build", "--vectors", str(vectors), "--output", str(tmp_path), *config])
    assert isinstance(missing.exception, ConfigError)


def test_ids_of_elsewhere_are_imported_and_exported_again(tmp_path: Path, vectors: Path) -> None:
    index = tmp_path / "shop.index.json"
    tokens = {str(item): [f"<a_{item % 5}>", f"<b_{item // 10}>"] for item in range(50)}
    index.write_text(json.dumps(tokens))
    folder = tmp_path / "ids"
    imported = run(app, ["import", "--index", str(index), "--vectors", str(vectors), "--output", str(folder)])
    assert imported.exit_code == 0, imported.output
    assert "collisions 50.00% before" in imported.output
    exported = run(app, ["export", "--bundle", str(folder), "--output", str(tmp_path / "out" / "shop.index.json")])
    assert exported.exit_code == 0, exported.output
    written = json.loads((tmp_path / "out" / "shop.index.json").read_text())
    assert written["7"] == ["<a_2>", "<b_0>", "<c_1>"]
    assert {item: one[:2] for item, one in written.items()} == tokens
    again = run(app, ["import", "--index", str(tmp_path / "out" / "shop.index.json"), "--vectors", str(vectors),
                      "--output", str(tmp_path / "again")])  # fmt: skip
    assert again.output == imported.output


def test_a_bundles_vectors_are_exported_with_its_ids(tmp_path: Path, vectors: Path) -> None:
    run(app, ["build", "--vectors", str(vectors), "--output", str(tmp_path / "ids")])
    save_file({"vectors": np.load(vectors).astype(np.float32)}, tmp_path / "ids" / "item_vectors.safetensors")
    done = run(app, ["export", "--bundle", str(tmp_path / "ids"), "--output", str(tmp_path / "shop.index.json")])
    assert done.exit_code == 0, done.output
    exported = np.load(tmp_path / "shop.emb-asterism.npy")
    np.testing.assert_array_equal(exported, np.load(vectors).astype(np.float32))
    assert list(json.loads((tmp_path / "shop.index.json").read_text())) == [str(item) for item in range(50)]


def test_a_report_compares_with_published_codes_in_all_three_forms(tmp_path: Path, vectors: Path) -> None:
    folder = tmp_path / "ids"
    run(app, ["build", "--vectors", str(vectors), "--output", str(folder)])
    columns = {
        "item_id": [str(item) for item in range(50)],
        "title": [f"thing {item}" for item in range(50)],
        "categories": [["even", "odd"][item % 2] for item in range(50)],
        "published_sid": [f"<a_{item % 2}><b_{item // 3}>" for item in range(50)],
    }
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    files = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    options = ["--vectors", str(vectors), "--items", str(tmp_path / "items.parquet"), *files]
    shown = run(app, ["report", "--bundle", str(folder), *options])
    assert shown.exit_code == 0, shown.output
    assert "thing 0; thing 2" in shown.output
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["published_sid"]["levels"][0]["purity"] == 1.0
    assert written["published_sid"]["levels"][0]["relative_error"] < 1.0
    assert "published_sid" in (tmp_path / "r.html").read_text()
    without = run(app, ["report", "--bundle", str(folder), "--items", str(tmp_path / "items.parquet")])
    assert without.exit_code == 0, without.output
    (tmp_path / "items.parquet").write_text("no table")
    assert isinstance(run(app, ["report", "--bundle", str(folder), *options]).exception, DataError)


def test_a_catalogue_in_another_order_is_refused(tmp_path: Path, vectors: Path) -> None:
    folder = tmp_path / "ids"
    run(app, ["build", "--vectors", str(vectors), "--output", str(folder)])
    item_ids = [str(item) for item in range(50)]
    pq.write_table(pa.table({"item_id": item_ids}), folder / "items.parquet")
    for name, columns, message in (
        ("turned", {"item_id": item_ids[::-1]}, "not in their order"),
        ("nameless", {"title": item_ids}, "item_id"),
    ):
        file = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns), file)
        refused = run(app, ["report", "--bundle", str(folder), "--items", str(file)])
        assert isinstance(refused.exception, DataError)
        assert message in str(refused.exception)
    (folder / "item_vectors.safetensors").write_text("cut")
    assert isinstance(run(app, ["report", "--bundle", str(folder)]).exception, BundleError)


def test_ids_built_like_earlier_ones_stay(tmp_path: Path, vectors: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('name = "t"\n[data]\npath = "x"\n[semantic_ids]\nlevels = 3\ncodes = 8\nlike = "by-row"\n')
    plain = tmp_path / "plain.toml"
    plain.write_text(config.read_text().replace('like = "by-row"', ""))
    options = ["build", "--vectors", str(vectors), "--seed", "1", "--output"]
    run(app, ["build", "--vectors", str(vectors), "--output", str(tmp_path / "by-row"), "--config", str(plain)])
    by_row = run(app, [*options, str(tmp_path / "a"), "--config", str(config)])
    assert by_row.exit_code == 0, by_row.output
    assert "before codes take their earlier names" in by_row.stderr
    assert "0.00% of 50 items have another first code" in by_row.stdout
    # With catalogues the items are found in another order too, and one of them is new.
    named = [f"item {number}" for number in range(50)]
    pq.write_table(pa.table({"item_id": named}), tmp_path / "by-row" / "items.parquet")
    pq.write_table(pa.table({"item_id": [*named[:0:-1], "new"]}), tmp_path / "items.parquet")
    np.save(tmp_path / "turned.npy", np.concatenate([np.load(vectors)[:0:-1], np.ones((1, 4))]))
    turned = ["build", "--vectors", str(tmp_path / "turned.npy"), "--output", str(tmp_path / "b"), "--seed", "1"]
    by_id = run(app, [*turned, "--config", str(plain), "--like", str(tmp_path / "by-row"), "--items",
                      str(tmp_path / "items.parquet")])  # fmt: skip
    assert by_id.exit_code == 0, by_id.output
    before, after = (load_semantic_ids(tmp_path / one / "semantic_ids.safetensors")[0] for one in ("by-row", "b"))
    assert (before.codes[:0:-1, 0] == after.codes[:-1, 0]).mean() > 0.9
    assert pq.read_table(tmp_path / "b" / "items.parquet")["item_id"].to_pylist()[-1] == "new"
    unnamed = run(app, [*turned, "--config", str(config)])
    assert isinstance(unnamed.exception, DataError)
    assert "give the new catalogue" in str(unnamed.exception)
    np.save(tmp_path / "few.npy", np.eye(4))
    few = run(app, ["build", "--vectors", str(tmp_path / "few.npy"), "--output", str(tmp_path / "c"), "--items",
                    str(tmp_path / "items.parquet")])  # fmt: skip
    assert "50 items do not belong to 4 vectors" in str(few.exception)
