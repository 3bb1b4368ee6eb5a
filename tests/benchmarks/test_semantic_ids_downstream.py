"""The comparison of methods runs from data to one line of JSON, and goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import command_line

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "semantic_ids_downstream.py"


def test_rows_are_measured_once_and_summed_up_over_seeds(tmp_path: Path) -> None:
    market = tmp_path / "market"
    made = command_line.run("data", "simulate", "--users", "60", "--items", "120", "--days", "8", "--output", market)
    assert made.returncode == 0, made.stderr
    rows = tmp_path / "rows.jsonl"
    settings = ["--epochs", "1", "--text-model", "tfidf", "--rows", str(rows), "--methods", "simhash:moved", "--seeds"]

    first = compare(market, *settings, "0")
    assert len(rows.read_text().splitlines()) == 1
    both = compare(market, *settings, "0", "1")

    assert first["rows"][0]["seeds"] == 1
    assert len(rows.read_text().splitlines()) == 2
    [summary] = both["rows"]
    measured = [json.loads(line) for line in rows.read_text().splitlines()]
    recalls = [one["test"]["item"]["recall"] for one in measured]
    assert summary["seeds"] == 2
    assert summary["test_item_recall"] == round(sum(recalls) / 2, 4)
    assert 0 < summary["test_item_recall"] < 1
    assert summary["collisions"] == 0.0  # 120 items have room on three levels of 256 codes


def compare(market: Path, *settings: str) -> dict:
    command = [sys.executable, str(SCRIPT), "--data", str(market), *settings]
    done = subprocess.run(command, capture_output=True, text=True, env=command_line.environment(), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
