"""The table of peers runs from data to one line of JSON, keeps finished rows, and says what is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import command_line
from asterism.config import DataConfig
from asterism.data.market import Market, MarketConfig
from asterism.data.splits import split_dataset
from asterism.evaluation.baselines import item_knn
from asterism.evaluation.metrics import ndcg, recall, target_ranks
from worlds import leave_one_out, sequences_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "peers.py"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peers") / "market"
    Market.generate(MarketConfig(users=60, items=120, days=8)).save(folder)
    return folder


def peers(*settings: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, settings)]
    return subprocess.run(command, capture_output=True, text=True, env=command_line.environment(), check=False)


def rows_of(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["benchmark"] == "peers"
    return found["rows"]


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.usefixtures("libraries")
def test_a_users_items_count_once_and_histories_stay_as_they_are() -> None:
    from peer_libraries.matrix_models import user_items

    histories = sequences_of([[3, 1, 3], [], [0]])
    matrix = user_items(histories, 4)
    assert matrix.toarray().tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert histories.items.tolist() == [3, 1, 3, 0]


@pytest.mark.usefixtures("libraries")
def test_a_round_is_an_epoch_or_as_many_as_make_a_hundred_steps() -> None:
    from peer_libraries.transformers import epochs_a_round

    assert epochs_a_round(users=610) == 10, "ten steps an epoch"
    assert epochs_a_round(users=2620) == 3, "41"
    assert epochs_a_round(users=22_363) == 1, "350"


@pytest.mark.usefixtures("libraries")
def test_a_large_catalogue_gets_the_sampled_softmax() -> None:
    from peer_libraries.transformers import loss_over

    assert loss_over(items=9_742) == {"loss": "softmax"}
    assert loss_over(items=12_101) == {"loss": "sampled_softmax", "n_negatives": 256}


@pytest.mark.usefixtures("libraries")
def test_the_row_of_a_transformer_says_why_it_ended() -> None:
    from peer_libraries.transformers import ending

    assert ending(best_round=5, rounds=15, epochs=2) == "epoch 10 of 30, stopped early"
    assert ending(best_round=5, rounds=14, epochs=2) == "epoch 10 of 28, cut by the minutes"
    assert ending(best_round=14, rounds=14, epochs=2) == "epoch 28 of 28, cut by the minutes, still rising"
    assert ending(best_round=195, rounds=200, epochs=1) == "epoch 195 of 200, all epochs done"


@pytest.mark.usefixtures("libraries")
def test_data_is_dense_where_an_average_history_fills_the_window() -> None:
    from peer_libraries.task import Task

    long, short = list(range(100)), [1]
    for rows, dense in (([long, short], True), ([long, short, short], False)):  # 50.5 and 34 events a user
        split = leave_one_out([[*row, 0, 0] for row in rows], items=100)
        assert Task(split, minutes=1, seed=0, threads=1).dense is dense


def test_peers_are_measured_once_by_the_protocol(market: Path, tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    [first] = rows_of(peers("--data", market, "--peers", "item_knn", "--rows", kept))
    both = rows_of(peers("--data", market, "--peers", "item_knn", "popularity", "--rows", kept))
    assert [row["peer"] for row in both] == ["item_knn", "popularity"]
    assert both[0] == first, "read from the file, not measured again"
    assert len(kept.read_text().splitlines()) == 2
    split = split_dataset(Market.load(market).dataset(), DataConfig(path="nowhere"))
    own = item_knn(split.train, len(split.items))
    for part, mode, exclude in (("validation", "included", False), ("test", "excluded", True)):
        cases = split.validation if part == "validation" else split.test
        ranks = target_ranks(own.recommend(cases.histories, 10, exclude), cases.targets)
        expected = {"recall": round(recall(ranks, 10).mean(), 4), "ndcg": round(ndcg(ranks, 10).mean(), 4)}
        assert first[f"{part}_{mode}"] == expected
        assert expected["recall"] > 0


@pytest.mark.skipif(importlib.util.find_spec("implicit") is not None, reason="the library is there")
def test_a_missing_library_is_said_and_tried_again(market: Path, tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    earlier = {"data": "market", "peer": "als", "seed": 0, "error": "an earlier reason"}
    kept.write_text(json.dumps(earlier) + "\n", encoding="utf-8")
    done = peers("--data", market, "--peers", "als", "--rows", kept)
    [row] = rows_of(done)
    assert row["error"] == "No module named 'implicit'; install what the head of peers.py names"
    assert row["error"] in done.stdout.splitlines()[2]


def test_a_bundle_stands_beside_them_where_it_was_trained_on_the_data(market: Path, tmp_path: Path) -> None:
    config = command_line.TINY_CONFIG.replace("tiny-market", "market").replace("epochs = 6", "epochs = 1")
    (market.parent / "tiny.toml").write_text(config, encoding="utf-8")
    done = command_line.run("train", "--config", market.parent / "tiny.toml", "--output", tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    other = shutil.copytree(market, tmp_path / "other")
    [row] = rows_of(peers("--data", market, other, "--peers", "--bundle", tmp_path / "ours"))
    assert (row["data"], row["peer"], row["model"]) == ("market", "asterism ours", "UGT")
    assert row["test_included"]["recall"] > 0
