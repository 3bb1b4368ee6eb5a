"""The ablation table: its intervals on ranks made by hand, and a real run on a small market that goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ablations
from ablation.intervals import load_ranking, paired_difference, save_ranking
from ablation.measuring import World, initial_recipe
from ablation.table import markdown, with_differences
from asterism.config import RunConfig, load_run_config
from asterism.data.initialise import initialise
from asterism.data.market import Market, MarketConfig
from asterism.evaluation.metrics import NOT_FOUND, ndcg, recall
from asterism.evaluation.significance import compare_paired
from command_line import TINY_CONFIG

ORDERS = ("served", "ranked", "beam")


def test_with_one_case_a_user_the_interval_is_that_of_the_cases() -> None:
    random = np.random.default_rng(3)
    first, second = random.integers(-1, 14, (2, 200))
    found = paired_difference(first, second, np.arange(200), seed=5, samples=300)
    slow = compare_paired(ndcg(first, 10), ndcg(second, 10), 300, 5)
    assert found == pytest.approx((slow.difference, slow.low, slow.high))


def test_all_cases_of_a_user_are_drawn_together() -> None:
    """User 7 gains 1 in each of three cases, user 9 nothing in one: a draw of two users gains 1, 3/4 or 0."""
    first, second = np.zeros(4, dtype=int), np.array([NOT_FOUND, 10, 50, 0])
    found = paired_difference(first, second, np.array([7, 7, 7, 9]), seed=0)
    assert found == (0.75, 0.0, 1.0)
    assert not found.is_clear


def test_a_gain_in_every_case_is_clear_and_unpaired_ranks_are_refused() -> None:
    found = paired_difference(np.ones(5, dtype=int), np.full(5, NOT_FOUND), np.arange(5), seed=0)
    assert found == pytest.approx((1 / np.log2(3),) * 3)
    assert found.is_clear
    with pytest.raises(ValueError, match="5 ranks, 4 ranks and 5 users"):
        paired_difference(np.ones(5, dtype=int), np.ones(4, dtype=int), np.arange(5), seed=0)


def test_ranks_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kept = {"test_users": np.array([4, 2]), "test_served": np.array([NOT_FOUND, 3])}
    save_ranking(kept, tmp_path / "one.npz")
    back = load_ranking(tmp_path / "one.npz")
    assert {name: ranks.tolist() for name, ranks in back.items()} == {"test_users": [4, 2], "test_served": [-1, 3]}
    assert [one.name for one in tmp_path.iterdir()] == ["one.npz"]


def test_lines_are_sorted_by_validation_and_clear_gains_are_bold() -> None:
    users = np.arange(40)
    ranks = {"worse": np.full(40, NOT_FOUND), "default": np.where(users % 2, 0, 9), "better": np.zeros(40, dtype=int)}
    both = ("validation", "test")
    rankings = {
        name: {f"{part}_users": users for part in both} | {f"{part}_served": one for part in both}
        for name, one in ranks.items()
    }
    score = {order: {"recall": 0.5, "ndcg": 0.25} for order in ORDERS}
    costs = {"best_epoch": 3, "epochs": 4, "cpu_minutes": 1.5, "parameters": 1234}
    common = {"seed": 0, "changes": {"model.asked": True}, "default": "off", "validation": score, "test": score}
    rows = [{"row": name, "model_of": "default" if name == "better" else name, **common, **costs} for name in ranks]
    lines = with_differences(rows, rankings, "default", "served")
    assert [line["row"] for line in lines] == ["default", "better", "worse"]
    text = markdown(lines, {"event values": "no training event has a value"}, "A market.", "default", "served")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert table[1].startswith("| default | `model.asked = true` | off | – | – | 0.5000/0.2500 |")
    assert table[2].split(" | ")[3].startswith("**+0.355")  # (1 − 1/log2(11)) / 2
    assert table[2].endswith("| 3/4 | – | 1,234 |")  # it asked the default's model
    assert table[3].endswith("| 3/4 | 1.5 | 1,234 |")
    assert text.endswith("* event values: no training event has a value\n")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablations")
    Market.generate(MarketConfig(users=60, items=120, days=8)).save(folder / "market")
    (folder / "tiny.toml").write_text(TINY_CONFIG.replace("epochs = 6", "epochs = 2"), encoding="utf-8")
    return folder


def test_the_recipe_is_what_init_writes(market: Path, tmp_path: Path) -> None:
    recipe = initial_recipe(str(market / "market"))
    files = {name: market / "market" / f"{name}.parquet" for name in ("interactions", "items", "users")}
    written = tmp_path / "market.toml"
    written.write_text(initialise(**files, output=written).text, encoding="utf-8")
    by_init = load_run_config(written)
    assert recipe.model_copy(update={"data": by_init.data}) == by_init
    assert recipe.data.split == by_init.data.split
    assert recipe.semantic_ids.codes == 32  # by the number of items; the package's constant is 256


def test_what_a_market_knows_is_seen(market: Path) -> None:
    recipe: RunConfig = load_run_config(market / "tiny.toml")
    facts = World(recipe, market).facts
    assert facts.items == 120
    assert facts.different_actions > 1
    assert facts.has_values
    assert facts.has_contexts
    assert facts.has_attributes
    assert facts.pairs > 0


def test_a_run_goes_on_where_it_stopped(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, text = tmp_path / "rows.jsonl", tmp_path / "table.md"

    def ablate(*more: str) -> tuple[dict[str, Any], str]:
        settings = ["--config", str(market / "tiny.toml"), "--minutes", "1", "--rows", str(rows)]
        monkeypatch.setattr(sys, "argv", ["ablations.py", *settings, "--markdown", str(text), *more])
        ablations.main()
        said = capsys.readouterr()
        return json.loads(said.out.splitlines()[-1]), said.err

    first, _ = ablate("--only", "time gaps", "1 block")
    default, gaps = sorted(first["rows"], key=lambda line: line["row"])
    assert first["skipped"] == {"1 block": "this is what the recipe has"}
    assert (default["row"], gaps["changes"]) == ("default", {"model.time_gaps": True})
    assert gaps["parameters"] > default["parameters"]
    kept = load_ranking(tmp_path / "rows.jsonl.ranks" / gaps["ranks"])
    for part in ("validation", "test"):
        for order in ORDERS:
            ranks = kept[f"{part}_{order}"]
            assert gaps[part][order]["ndcg"] == pytest.approx(ndcg(ranks, 10).mean(), abs=1e-5)
            assert gaps[part][order]["recall"] == pytest.approx(recall(ranks, 10).mean(), abs=1e-5)
        gained = gaps[part]["served"]["ndcg"] - default[part]["served"]["ndcg"]
        mean, low, high = gaps["gains"][part]
        assert mean == pytest.approx(gained, abs=2e-5)
        assert low < mean < high

    again, said = ablate("--only", "time gaps", "ordered by codes alone", "--against", "time gaps")
    assert len(rows.read_text().splitlines()) == 3
    assert "2 rows are done, 1 to come" in said
    assert "epoch 1" not in said  # the row that only orders anew asks the kept model
    by_name = {line["row"]: line for line in again["rows"]}
    codes = by_name["ordered by codes alone"]
    assert codes["model_of"] == "default"
    for part in ("validation", "test"):
        assert codes[part]["served"] == codes[part]["beam"] == default[part]["beam"]
        assert codes[part]["ranked"] == default[part]["ranked"]
        assert by_name["default"]["gains"][part][0] == pytest.approx(-gaps["gains"][part][0])
    assert text.read_text().count("\n| ") == 4

    _, said = ablate("--only", "time gaps", "--seed", "1")
    assert "0 rows are done, 2 to come" in said  # another seed is another recipe
    assert len(rows.read_text().splitlines()) == 5


def test_an_unknown_row_names_the_nearest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ablations.py", "--only", "time gap"])
    with pytest.raises(SystemExit):
        ablations.main()
    assert "there is no row 'time gap'; did you mean 'time gaps'" in capsys.readouterr().err
