"""`asterism sids` from a file of vectors to a table on the terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
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
