"""From two files to a measured, servable bundle, by the commands a user types."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from asterism.core import parts
from asterism.core.bundle import Bundle
from asterism.decoding.loading import load_recommender
from asterism.semantic_ids import load_semantic_ids
from asterism.serving.engine.generator import load_engine
from asterism.serving.ports import EngineRequest, HistoryEvent
from command_line import TINY_CONFIG, asterism, run
from end_to_end.killing import killed_in_the_middle


def evaluate(bundle: Path, *more: str | Path) -> dict[str, object]:
    file = bundle.with_suffix(".json")
    done = run("evaluate", "--bundle", bundle, "--json", file, *more)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_the_json_holds_what_was_promised(bundle: Path) -> None:
    found = evaluate(bundle, "--split", "test", "--html", bundle.with_suffix(".html"))
    assert (found["dataset"], found["split"], found["seed"]) == ("tiny-market", "test", 0)
    assert isinstance(found["users"], int)
    assert found["users"] > 100
    for key in ("metrics", "metrics_history_excluded"):
        metrics = found[key]
        assert isinstance(metrics, dict)
        assert {f"{name}@{k}" for name in ("recall", "hr", "ndcg", "mrr") for k in (1, 3, 5, 10, 20, 50)} <= set(
            metrics
        )
    assert "popularity" in found["baselines"]  # type: ignore[operator]
    assert bundle.with_suffix(".html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_killed_run_resumes_to_the_same_weights(workshop: Path, bundle: Path) -> None:
    output = workshop / "cut-off"
    log = workshop / "cut-off.run" / "metrics.jsonl"
    command = asterism("train", "--config", workshop / "tiny.toml", "--output", output)
    killed_in_the_middle(command, output, log, after=2, whole=6)
    resumed = run("train", "--config", workshop / "tiny.toml", "--output", output, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    for part in (parts.MODEL_WEIGHTS, parts.SEMANTIC_IDS, parts.ITEM_VECTORS):
        assert Bundle.open(output).manifest.parts[part] == Bundle.open(bundle).manifest.parts[part], part
    epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
    assert epochs == list(range(1, 7))


def test_items_keep_their_ids_through_another_training(workshop: Path, bundle: Path) -> None:
    config = TINY_CONFIG.replace("[data]", "seed = 7\n[data]", 1).replace("codes = 16", 'codes = 16\nlike = "bundle"')
    (workshop / "like.toml").write_text(config.replace("epochs = 6", "epochs = 1"), encoding="utf-8")
    done = run("train", "--config", workshop / "like.toml", "--output", workshop / "like")
    assert done.returncode == 0, done.stderr
    assert "items that had one" in done.stderr
    (before, _), (after, _) = (
        load_semantic_ids(Bundle.open(one).part(parts.SEMANTIC_IDS)) for one in (bundle, workshop / "like")
    )
    assert (before.codes == after.codes).all(axis=1).mean() > 0.9


def test_two_processes_train_one_bundle(workshop: Path) -> None:
    output = workshop / "pair"
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    command = asterism(
        "train",
        "--config",
        workshop / "tiny.toml",
        "--output",
        output,
        launcher=launcher,
    )
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(Bundle.open(output).part(parts.METRICS).read_text())
    assert result["processes"] == 2
    assert result["best_ndcg_at_10"] > 0.03, "it learned something"
    assert (workshop / "pair.run" / "metrics.jsonl").read_text().count("\n") == result["epochs"]


def test_bf16_and_another_seed(workshop: Path) -> None:
    half = TINY_CONFIG.replace("negatives = 0", 'negatives = 0\nprecision = "bf16"')
    (workshop / "half.toml").write_text(half, encoding="utf-8")
    done = run("train", "--config", workshop / "half.toml", "--output", workshop / "half", "--seed", "3")
    assert done.returncode == 0, done.stderr
    trained = Bundle.open(workshop / "half")
    assert trained.fact("seed") == 3
    assert json.loads(trained.part(parts.METRICS).read_text())["best_ndcg_at_10"] > 0.03


def test_other_data_than_was_trained_on_are_refused(workshop: Path, bundle: Path, tmp_path: Path) -> None:
    for name in ("interactions.parquet", "items.parquet"):
        table = pq.read_table(workshop / "market" / name)
        pq.write_table(table.slice(0, table.num_rows - 1), tmp_path / name)
    done = run("evaluate", "--bundle", bundle, "--data", tmp_path)
    assert done.returncode == 2
    assert "dataset_fingerprint" in done.stderr
    assert "does not belong to this bundle" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_csv_files_and_an_init_are_enough(workshop: Path, tmp_path: Path) -> None:
    market = workshop / "market"
    interactions = pq.read_table(market / "interactions.parquet")
    pc.write_csv(interactions.select(["user_id", "item_id", "timestamp", "action"]), tmp_path / "a.csv")
    pc.write_csv(pq.read_table(market / "items.parquet").select(["item_id", "title", "price"]), tmp_path / "b.csv")
    made = run(
        "init", "--interactions", tmp_path / "a.csv", "--items", tmp_path / "b.csv", "--output", tmp_path / "my.toml"
    )
    assert made.returncode == 0, made.stderr
    text = (tmp_path / "my.toml").read_text(encoding="utf-8")
    quick = "\n".join("epochs = 2" if line.startswith("epochs =") else line for line in text.splitlines())
    (tmp_path / "my.toml").write_text(quick.replace('"all-MiniLM-L6-v2"', '"tfidf"'), encoding="utf-8")
    done = run("train", "--config", tmp_path / "my.toml", "--output", tmp_path / "mine")
    assert done.returncode == 0, done.stderr
    assert evaluate(tmp_path / "mine")["dataset"] == "my"
    (tmp_path / "moved").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    lost = run("evaluate", "--bundle", tmp_path / "mine")
    assert (lost.returncode, "--data" in lost.stderr, "Traceback" in lost.stderr) == (2, True, False)
    assert evaluate(tmp_path / "mine", "--data", tmp_path / "moved")["dataset"] == "my"


def hear_ctrl_c() -> None:
    """In the child: a suite that was started in the background hands on a SIGINT that is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_how_to_go_on(workshop: Path) -> None:
    output = workshop / "interrupted"
    endless = TINY_CONFIG.replace("epochs = 6", "epochs = 1000\npatience = 1000")
    (workshop / "endless.toml").write_text(endless, encoding="utf-8")
    command = asterism("train", "--config", workshop / "endless.toml", "--output", output)
    child = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    try:
        assert child.stderr is not None
        assert next(line for line in child.stderr if line.startswith("epoch 1/1000"))
        rival = run("train", "--config", workshop / "endless.toml", "--output", output)
        assert (rival.returncode, "another training is at work in" in rival.stderr) == (2, True)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted; the same command with --resume goes on")
    assert "Traceback" not in said


def test_a_users_own_file_is_never_replaced(workshop: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("precious", encoding="utf-8")
    done = run("train", "--config", workshop / "tiny.toml", "--output", tmp_path / "log.csv")
    assert (done.returncode, "is no bundle" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    assert (tmp_path / "log.csv").read_text(encoding="utf-8") == "precious"


def test_served_answers_are_the_generators(bundle: Path) -> None:
    trained = load_recommender(Bundle.open(bundle))
    events = pq.read_table(bundle / parts.HISTORIES).to_pylist()
    user = events[0]["user_id"]
    history = [one for one in events if one["user_id"] == user]
    seen = frozenset(one["item_id"] for one in history)
    request = EngineRequest(
        tuple(HistoryEvent(one["timestamp"], one["item_id"], one["action"]) for one in history), 10, seen
    )
    empty = EngineRequest((), 5)
    served, cold = load_engine(bundle).recommend([request, empty])
    engine = load_engine(bundle)
    offline = trained.generator.recommend(engine._histories([request]), 10, exclude_history=True)
    assert [one.item_id for one in served.items] == [trained.item_ids.id_of(item) for item in offline.items[0].tolist()]
    assert len(cold.items) == 5, "a user without events gets the prior"


@pytest.mark.parametrize("part", [parts.MODEL_WEIGHTS, parts.ITEMS, parts.SEMANTIC_IDS])
def test_a_mixed_up_bundle_names_the_part(workshop: Path, bundle: Path, tmp_path: Path, part: str) -> None:
    other = tmp_path / "mixed"
    other.mkdir()
    for file in bundle.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / part).write_bytes((other / part).read_bytes()[:-1])
    done = run("evaluate", "--bundle", other)
    assert done.returncode == 2
    assert part in done.stderr
    assert "cut short or changed" in done.stderr


def test_a_full_disk_is_a_sentence_and_spoils_nothing(workshop: Path, bundle: Path, tmp_path: Path) -> None:
    before = Bundle.open(bundle).version
    for output, what in ((tmp_path / "new", "new.run/checkpoint"), (bundle, str(bundle))):
        command = asterism("train", "--config", workshop / "tiny.toml", "--output", output, "--resume")
        limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "bash", *command]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(limited, capture_output=True, text=True, env=env, check=False, timeout=900)
        assert done.returncode == 2, done.stderr
        said = done.stderr.splitlines()[-1]
        assert said.startswith("error StorageError:")
        assert f"{what} cannot be written" in said
        assert "File too large" in said
        assert said.endswith("make room, then train with --resume")
        assert "Traceback" not in done.stderr
    assert Bundle.open(bundle).version == before
    assert not (tmp_path / "new").exists()


def test_a_missing_text_model_is_one_line(workshop: Path, tmp_path: Path) -> None:
    text = TINY_CONFIG.replace('"tfidf"', '"no/such-model"').replace("epochs = 6", "epochs = 1")
    (workshop / "no_model.toml").write_text(text, encoding="utf-8")
    command = ("train", "--config", workshop / "no_model.toml", "--output", tmp_path / "bundle")
    done = run(*command, HF_HUB_OFFLINE="1", ASTERISM_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    (told,) = [line for line in done.stderr.splitlines() if "TF-IDF takes its place" in line]
    assert told.startswith("warning: the text model 'no/such-model' cannot be loaded")
    assert "embedder.py" not in done.stderr
