"""The page of this room: its code runs, and its constants are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asterism.evaluation import baselines
from asterism.evaluation.beyond_accuracy import HEAD_SHARE
from worlds import markov_chain

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    split = markov_chain()

    class Mine:
        name = "mine"
        recommend = baselines.markov(split.train, len(split.items)).recommend

    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(block, "docs/evaluation.md", "exec"), {"recommender": Mine(), "split": split})
    assert "mine" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "report.html"]


def test_the_constants_on_the_page_are_true() -> None:
    assert f"weighs {baselines.RECENCY_DECAY} of the newer" in PAGE
    assert f"{baselines.NEIGHBOURS} neighbours an item, shrinkage {baselines.SHRINKAGE:.0f}" in PAGE
    assert f"that hold {HEAD_SHARE:.0%}".replace("%", " %") in PAGE
