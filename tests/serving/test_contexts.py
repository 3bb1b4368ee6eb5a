"""A model that reads everything is served what it was trained and evaluated on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from asterism.config import DecodingConfig, ModelConfig, parse_run_config
from asterism.core import parts, records
from asterism.core.bundle import Bundle, BundleWriter
from asterism.core.clock import ManualClock
from asterism.core.ids import IdMap
from asterism.core.records import Action
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.attributes import UserAttributes
from asterism.data.contexts import context_code
from asterism.data.dataset import Dataset
from asterism.data.splits import leave_one_out
from asterism.decoding.generator import Generator
from asterism.decoding.loading import TrainedRecommender
from asterism.models.ugt import UGT
from asterism.serving.bundle_tables import read_histories
from asterism.serving.engine.generator import GeneratorEngine
from asterism.serving.hot_state import HotState, PastEvent
from asterism.serving.item_facts import ItemFacts
from asterism.serving.ports import EngineAnswer, EngineRequest, HistoryEvent
from asterism.serving.recommendation import RecommendRequest
from asterism.serving.recommender import Recommender
from asterism.serving.service import ServiceSettings, open_service
from asterism.stores.catalogue import Item
from asterism.stores.event_log import Event
from asterism.stores.exposure_log import LocalExposureLog
from asterism.stores.opening import open_warm
from asterism.stores.user_state import RecentEvent, Visitor
from asterism.stores.vectors import ExactVectorIndex
from asterism.training.bundling import CONTEXTS, newest_positive_events
from models.small_ugt import EVERYTHING, ITEMS, make_features, make_model
from serving.small_market import item_vectors, items_table

USERS = ("ada", "bob", "cleo", "dan")
ITEM_IDS = [f"i{number:02d}" for number in range(ITEMS)]


def market() -> Dataset:
    """Four users with 3, 8, 13 and 18 events, some with values, all with scene and device."""
    random = np.random.default_rng(0)
    users = [user for place, user in enumerate(USERS) for _ in range(3 + 5 * place)]
    count = len(users)
    log = {
        "user_id": users,
        "item_id": [ITEM_IDS[item] for item in random.integers(0, ITEMS, count)],
        "timestamp": np.sort(random.integers(1000, 10**6, count)),
        "action": random.choice(["click", "rating", "purchase"], count).tolist(),
        "value": pa.array(random.integers(1, 6, count).astype(float), mask=random.random(count) < 0.5),
        "scene": random.choice(["home", "search"], count).tolist(),
        "device": random.choice(["phone", "desk"], count).tolist(),
    }
    people = pa.table({"user_id": USERS, "city": ["Rome", "Rome", "Oslo", "Oslo"]})
    return Dataset(pa.table(log), pa.table({"item_id": ITEM_IDS, "title": ITEM_IDS}), people)


def trained(model: UGT, users: pa.Table) -> TrainedRecommender:
    features = make_features()
    table = SemanticIdTable(features.codes.numpy(), features.codebook_sizes)
    generator = Generator(model, table, DecodingConfig(beam=ITEMS))
    bundle: Any = None  # nothing of it is read once the parts are in memory
    config = parse_run_config({"name": "x", "data": {"path": "."}})
    vectors = features.content.numpy()
    attributes = UserAttributes.of(users)
    return TrainedRecommender(
        bundle, config, pa.table({}), IdMap(ITEM_IDS), vectors, table, model, generator, attributes
    )


def requests(dataset: Dataset, **left_out: object) -> list[EngineRequest]:
    """What the service would send for each user's test case."""
    asked = []
    for user in USERS:
        rows = [row for row in dataset.interactions.to_pylist() if row["user_id"] == user]
        history = tuple(
            HistoryEvent(one["timestamp"], one["item_id"], one["action"], one["value"], one["scene"], one["device"])
            for one in rows[:-1]
        )
        asked.append(
            EngineRequest(
                history,
                5,
                user_id=user,
                timestamp=rows[-1]["timestamp"],
                scene=rows[-1]["scene"],
                device=rows[-1]["device"],
            )
        )
    return [replace(one, **left_out) for one in asked]  # type: ignore[arg-type]


def test_what_is_served_is_what_was_evaluated() -> None:
    dataset, model = market(), make_model(**EVERYTHING)
    histories = leave_one_out(dataset).test.histories
    assert histories.asked is not None
    recommender = trained(model, dataset.users)
    offline = recommender.generator.recommend(histories, 5)
    for row, answer in enumerate(GeneratorEngine(recommender).recommend(requests(dataset))):
        assert [one.item_id for one in answer.items] == [ITEM_IDS[item] for item in offline.items[row]]
        np.testing.assert_allclose([one.score for one in answer.items], offline.scores[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("left_out", [{"user_id": None}, {"timestamp": None}, {"scene": None}, {"device": None}])
def test_each_part_of_a_request_reaches_the_model(left_out: dict[str, object]) -> None:
    dataset = market()
    engine = GeneratorEngine(trained(make_model(**EVERYTHING), dataset.users))
    whole, without = (engine.recommend(requests(dataset, **one)) for one in ({}, left_out))
    assert [one.items[0].score for one in whole] != [one.items[0].score for one in without]


def test_a_plain_model_is_given_items_moments_and_actions_only() -> None:
    dataset = market()
    engine = GeneratorEngine(trained(make_model(), dataset.users))
    sequences = engine._histories(requests(dataset))
    assert (sequences.values, sequences.scenes, sequences.attributes, sequences.asked) == (None,) * 4


def test_histories_keep_their_contexts_through_the_bundle(tmp_path: Path) -> None:
    dataset = market()
    writer = BundleWriter(tmp_path / "b")
    pq.write_table(newest_positive_events(dataset.interactions, 4, CONTEXTS), writer.part(parts.HISTORIES))
    writer.commit({})
    found = read_histories(Bundle.open(tmp_path / "b"))
    log = dataset.interactions.to_pylist()
    newest = [row for user in USERS for row in [one for one in log if one["user_id"] == user][-4:]]
    assert [(one.user_id, *one.event) for one in found] == [
        (row["user_id"], row["timestamp"], row["item_id"], row["action"], row["value"], row["scene"], row["device"])
        for row in newest
    ]
    plain = newest_positive_events(dataset.interactions)
    assert plain.column_names == [records.USER_ID, records.ITEM_ID, records.TIMESTAMP, records.ACTION]


def test_feedback_carries_its_value_and_scene_into_the_state() -> None:
    hot = HotState({"a": ()}, [PastEvent("ada", RecentEvent(1, "a", Action.RATING, 4.0, "home", "phone"))])
    hot.apply(Event("e1", "a", Action.RATING, 2, user_id="ada", value=5.0, scene="search"))
    hot.apply(Event("e2", "a", Action.RATING, 1, user_id="ada"))  # the log tells of the past event once more
    recent = hot.states.get(Visitor("ada")).recent
    assert [(one.timestamp, one.value, one.scene, one.device) for one in recent] == [
        (1, 4.0, "home", "phone"),
        (2, 5.0, "search", None),
    ]


def test_the_model_says_what_it_reads() -> None:
    assert ModelConfig(max_events=7, max_history=90).events_read == 7
    assert ModelConfig(max_events=7, max_history=90, summaries=2).events_read == 90
    assert context_code("home") != context_code("search")


def test_the_service_keeps_as_many_events_as_the_model_reads(tmp_path: Path) -> None:
    kept = []
    for name, facts in (("old", {}), ("short", {"events_read": 50}), ("long", {"events_read": 230})):
        writer = BundleWriter(tmp_path / name)
        pq.write_table(items_table(), writer.part(parts.ITEMS))
        save_file({"vectors": item_vectors()}, writer.part(parts.ITEM_VECTORS))
        events = {"user_id": ["ada"] * 240, "item_id": ["lamps-03"] * 240, "timestamp": range(240)}
        pq.write_table(pa.table({**events, "action": ["click"] * 240}), writer.part(parts.HISTORIES))
        writer.commit({"items": len(items_table()), **facts})
        service = open_service(ServiceSettings(tmp_path / name, tmp_path / f"state-{name}"))
        kept.append(len(service.hot.states.get(Visitor("ada")).recent))
        asyncio.run(service.stop())
    assert kept == [200, 200, 230]


class RecordingEngine:
    """Implements `EngineClient`: keeps what it was asked, and knows nothing."""

    bundle_version = "v1"

    def __init__(self) -> None:
        self.asked: list[EngineRequest] = []

    async def recommend(self, request: EngineRequest) -> EngineAnswer:
        self.asked.append(request)
        return EngineAnswer(())

    def semantic_id(self, item_id: str) -> None:
        return None


def test_the_engine_is_told_who_asks_when_and_in_which_scene(tmp_path: Path) -> None:
    engine = RecordingEngine()
    past = RecentEvent(1, "a", Action.RATING, 4.0, "home", "phone")
    exposures, catalogue = LocalExposureLog(tmp_path / "e"), open_warm(f"sqlite:///{tmp_path}/c.db").catalogue
    recommender = Recommender(
        engine=engine,
        hot=HotState({"a": ()}, [PastEvent("ada", past)]),
        catalogue=catalogue,
        facts=ItemFacts([Item("a", "A")]),
        vectors=ExactVectorIndex(IdMap(["a"]), np.ones((1, 2), np.float32)),
        exposures=exposures,
        clock=ManualClock(1234.5),
        bundle_version="v",
    )
    asyncio.run(recommender.recommend(RecommendRequest(Visitor("ada"), scene="search", device="phone")))
    exposures.close()
    catalogue.close()
    (asked,) = engine.asked
    assert (asked.user_id, asked.timestamp, asked.scene, asked.device) == ("ada", 1234, "search", "phone")
    assert asked.history == (HistoryEvent(1, "a", "rating", 4.0, "home", "phone"),)
