"""A model with every switch on, from the simulated market's tables to served answers."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from asterism.core import parts
from asterism.core.bundle import Bundle
from asterism.data.locating import resolve_data
from asterism.data.splits import split_dataset
from asterism.decoding.loading import load_recommender
from asterism.serving.engine.generator import load_engine
from asterism.serving.ports import EngineRequest, HistoryEvent
from command_line import TINY_CONFIG, run

SWITCHES = """max_events = 6
actions = true
values = true
time_gaps = true
contexts = true
asked = true
user_attributes = true
group_norm = true
experts = 3
summaries = 2
max_history = 20"""


@pytest.fixture(scope="module")
def everything(workshop: Path) -> Path:
    text = TINY_CONFIG.replace("max_events = 20", SWITCHES).replace("epochs = 6", "epochs = 10")
    (workshop / "everything.toml").write_text(text, encoding="utf-8")
    done = run("train", "--config", workshop / "everything.toml", "--output", workshop / "everything")
    assert done.returncode == 0, done.stderr
    return workshop / "everything"


def test_it_is_evaluated(everything: Path) -> None:
    file = everything.with_suffix(".json")
    done = run("evaluate", "--bundle", everything, "--json", file)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["metrics"]["recall@20"] > 1.2 * 20 / found["items"], "ten epochs learn more than chance"


def test_the_service_gives_what_the_data_would(workshop: Path, everything: Path) -> None:
    """The bundle's histories and users make the engine answer as the data set's own sequences make the generator."""
    trained = load_recommender(Bundle.open(everything))
    dataset = resolve_data(trained.config.data, workshop)
    split = split_dataset(dataset, trained.config.data)
    rows = pq.read_table(everything / parts.HISTORIES).to_pylist()
    assert {"value", "scene", "device"} <= set(rows[0])
    requests, asked = [], []
    for user, events in groupby(rows, key=lambda row: row["user_id"]):
        *known, newest = events
        if len(known) >= 2 and len(requests) < 30:
            history = tuple(
                HistoryEvent(one["timestamp"], one["item_id"], one["action"], one["value"], one["scene"], one["device"])
                for one in known
            )
            requests.append(EngineRequest(history, 5, frozenset(), user, newest["timestamp"], newest["scene"]))
            asked.append(split.users.index_of(user))
    cases = split.test.take(np.flatnonzero(np.isin(split.test.users, asked)))
    devices = cases.histories.asked.devices  # type: ignore[union-attr]
    assert devices is not None
    devices[:] = 0  # a request does not tell its device
    assert cases.histories.attributes is not None
    assert cases.histories.attributes.any(), "the market's users have attributes"
    offline = trained.generator.recommend(cases.histories, 5)
    place = {int(user): row for row, user in enumerate(cases.users)}
    for user, answer in zip(asked, load_engine(everything).recommend(requests), strict=True):
        expected = [trained.item_ids.id_of(item) for item in offline.items[place[user]].tolist()]
        assert [one.item_id for one in answer.items] == expected
