"""The trained generator as an elastic engine: its width, its changes of items, and leaving a batch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from asterism.core.errors import AbandonedError
from asterism.data.item_attributes import Predicate
from asterism.serving.engine import calibration
from asterism.serving.engine.calibration import calibrate, made_requests
from asterism.serving.engine.generator import GeneratorEngine, load_engine
from asterism.serving.engine.pool import EnginePool
from asterism.serving.ports import ElasticEngine, Remembering
from asterism.serving.service import DEFAULT_ENGINE
from asterism.stores.users import digest_of
from reference_shape import item_ids_of, write_reference_bundle
from serving.engine.stepping import run

ITEMS = 300


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference_bundle(tmp_path_factory.mktemp("reference") / "bundle", items=ITEMS, beam=40).path


@pytest.fixture(scope="module")
def engine(reference: Path) -> GeneratorEngine:
    return load_engine(reference)


def ids(engine: GeneratorEngine, beam: int, count: int = 10) -> list[list[str]]:
    answers = engine.recommend_within(made_requests(item_ids_of(ITEMS), 4, count), beam, lambda: True)
    return [[item.item_id for item in one.items] for one in answers]


def test_the_width_is_the_callers(engine: GeneratorEngine) -> None:
    assert isinstance(engine, ElasticEngine)
    assert engine.beam == 40
    as_configured = engine.recommend(made_requests(item_ids_of(ITEMS), 4))
    assert [[item.item_id for item in one.items] for one in as_configured] == ids(engine, 40)
    assert ids(engine, 2) != ids(engine, 40), "a narrow beam misses items that a wide one finds"
    assert [len(one) for one in ids(engine, 2, count=30)] == [30] * 4, "and is never narrower than the answer"


def test_an_answer_does_not_depend_on_what_its_neighbours_ask_for(engine: GeneratorEngine) -> None:
    few, many = made_requests(item_ids_of(ITEMS), 20, 3), made_requests(item_ids_of(ITEMS), 20, 40)
    together = engine.recommend_within([*few, *many], 3, lambda: True)
    alone = [engine.recommend_within([one], 3, lambda: True)[0] for one in [*few, *many]]
    assert [[item.item_id for item in one.items] for one in together] == [
        [item.item_id for item in one.items] for one in alone
    ]
    assert [len(one.items) for one in together] == [3] * 20 + [40] * 20


def test_items_leave_and_come_back(engine: GeneratorEngine) -> None:
    before = ids(engine, 40)
    gone = {one[0] for one in before}
    engine.set_available([*gone, "never heard of"], False)
    assert not gone & {item for one in ids(engine, 40) for item in one}
    engine.set_available(gone, True)
    assert ids(engine, 40) == before


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_batch_is_left_between_two_steps(engine: GeneratorEngine, steps: int) -> None:
    asked = iter([True] * steps)
    with pytest.raises(AbandonedError, match=f"left at level {steps}"):
        engine.recommend_within(made_requests(item_ids_of(ITEMS), 2), 40, lambda: next(asked, False))


def test_calibration_measures_the_widest_and_the_narrowest_beam(
    engine: GeneratorEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_BUDGET_SECONDS", 600.0)
    samples = calibrate(engine, item_ids_of(ITEMS), 20)
    assert [(one.rows, one.width) for one in samples] == [(1, 40), (1, 20), (8, 40), (8, 20), (32, 40), (32, 20)]
    assert 0 < samples[0].seconds < samples[4].seconds


def test_the_process_answers_as_the_engine_in_this_one(reference: Path, engine: GeneratorEngine) -> None:
    requests = made_requests(item_ids_of(ITEMS), 4)

    async def work(pool: EnginePool) -> None:
        answers = await asyncio.gather(*map(pool.recommend, requests))
        assert [one.items for one in answers] == [one.items for one in engine.recommend(requests)]
        assert {one.beam for one in answers} == {40}

    run(reference, work, factory=DEFAULT_ENGINE)


def test_a_forgotten_user_is_kept_no_longer(engine: GeneratorEngine) -> None:
    (request,) = made_requests(item_ids_of(ITEMS), 1)
    asked = [replace(request, user_id="ann")]
    before = engine.kept_bytes()["states"]
    for _ in range(2):  # who comes again is kept
        found = engine.recommend(asked)
    assert engine.kept_bytes()["states"] > before
    assert isinstance(engine, Remembering)
    engine.forget([digest_of("ann"), digest_of("nobody")])
    assert engine.kept_bytes()["states"] == before
    again = engine.recommend(asked)
    assert [item.item_id for item in again[0].items] == [item.item_id for item in found[0].items]


def test_kept_filters_are_told(reference: Path) -> None:
    engine = load_engine(reference)
    assert engine.kept_bytes() == {"states": 0, "filters": 0}
    request = replace(made_requests(item_ids_of(ITEMS), 1)[0], wanted=Predicate(highest_price=1.0))
    engine.recommend([request, replace(request, wanted=Predicate(highest_price=2.0)), request])
    one = engine.kept_bytes()["filters"] // 2
    assert ITEMS < one < 1 << 20
    engine.recommend([replace(request, wanted=Predicate(highest_price=3.0))])
    assert engine.kept_bytes()["filters"] == 3 * one
