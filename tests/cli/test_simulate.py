"""`asterism data simulate`: files that load, and a table that counts them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import typer
from typer.testing import CliRunner

from asterism.cli.simulate import simulate
from asterism.data.market import Market


def test_a_simulated_folder_holds_all_it_says(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(simulate)
    folder = tmp_path / "market"
    sizes = ["--users", "50", "--items", "120", "--days", "10", "--seed", "3"]
    result = CliRunner().invoke(app, ["--output", str(folder), *sizes])
    assert result.exit_code == 0, result.output
    market = Market.load(folder)
    assert (market.config.users, market.config.items, market.config.days, market.config.seed) == (50, 120, 10, 3)
    rows = pq.read_table(folder / "interactions.parquet").num_rows
    assert f"{rows:,}" in result.output
    assert "purchase" in result.output
    images = pq.read_table(folder / "items.parquet")["image"].to_pylist()
    assert len(images) == 120
    assert all(one.startswith("<svg") for one in images)
