"""An engine of recorded graphs answers as the one on a processor, also as a process; without a GPU it says so."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asterism.data.item_attributes import Predicate
from asterism.decoding.captured.recording import Directly
from asterism.serving.engine.calibration import made_requests
from asterism.serving.engine.captured import captured_engine
from asterism.serving.engine.generator import GeneratorEngine, load_engine
from asterism.serving.engine.pool import EnginePool
from asterism.serving.places import CUDA_ENGINE
from asterism.serving.ports import ElasticEngine, EngineAnswer, EngineRequest
from reference_shape import item_ids_of, write_reference_bundle
from serving.engine.stepping import run

ITEMS = 300


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference_bundle(tmp_path_factory.mktemp("reference") / "bundle", items=ITEMS, beam=8).path


@pytest.fixture(scope="module")
def engines(reference: Path) -> tuple[GeneratorEngine, GeneratorEngine]:
    return captured_engine(reference, Directly()), load_engine(reference)


def load_on_processor(bundle: Path) -> GeneratorEngine:
    """A factory for a process of its own."""
    return captured_engine(bundle, Directly())


def items(answers: list[EngineAnswer]) -> list[list[str]]:
    return [[item.item_id for item in one.items] for one in answers]


def asked() -> list[EngineRequest]:
    """Of several counts, with and without what is left out, filters and lists of what is allowed."""
    names = item_ids_of(ITEMS)
    requests = made_requests(names, 9)
    return [
        *requests[:3],
        replace(requests[3], count=30, excluded=frozenset(names[::2])),
        replace(requests[4], allowed=frozenset(names[:20])),
        replace(requests[5], wanted=Predicate(highest_price=1.0)),
        replace(requests[6], history=()),
        replace(requests[7], user_id="ann", count=3),
        replace(requests[8], history=requests[8].history * 3),
    ]


def test_it_answers_as_the_engine_on_a_processor(engines: tuple[GeneratorEngine, GeneratorEngine]) -> None:
    ours, theirs = engines
    assert isinstance(ours, ElasticEngine)
    assert ours.beam == theirs.beam == 8
    for beam in (1, 3, 8):
        found = ours.recommend_within(asked(), beam, lambda: True)
        assert items(found) == items(theirs.recommend_within(asked(), beam, lambda: True))
    assert len(found[3].items) == 30
    assert [one.score for one in found[0].items] == pytest.approx(
        [one.score for one in theirs.recommend(asked())[0].items], abs=1e-4
    )


def test_items_leave_and_come_back(engines: tuple[GeneratorEngine, GeneratorEngine]) -> None:
    before = items(engines[0].recommend(asked()))
    gone = {one[0] for one in before if one}
    for engine in engines:
        engine.set_available(gone, False)
    left = [items(engine.recommend(asked())) for engine in engines]
    assert left[0] == left[1]
    assert not gone & {item for one in left[0] for item in one}
    for engine in engines:
        engine.set_available(gone, True)
    assert items(engines[0].recommend(asked())) == before


def test_the_process_answers_as_the_engine_in_this_one(
    reference: Path, engines: tuple[GeneratorEngine, GeneratorEngine]
) -> None:
    requests = made_requests(item_ids_of(ITEMS), 4)

    async def work(pool: EnginePool) -> None:
        answers = await asyncio.gather(*map(pool.recommend, requests))
        assert items(answers) == items(engines[0].recommend(requests))

    run(reference, work, factory=f"{__name__}:load_on_processor")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_engine_says_what_to_do(reference: Path, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "asterism", "serve", "engine", "--device", "cuda", "--bundle", str(reference))
    ended = subprocess.run(
        [*command, "--state", str(tmp_path)], capture_output=True, text=True, timeout=120, env=os.environ, check=False
    )
    assert ended.returncode != 0
    assert "torch finds no CUDA device; serve with `--device cpu`" in ended.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_it_is_the_same(reference: Path, engines: tuple[GeneratorEngine, GeneratorEngine]) -> None:
    async def work(pool: EnginePool) -> None:
        answers = await asyncio.gather(*map(pool.recommend, asked()))
        assert items(answers) == items(engines[1].recommend(asked()))

    run(reference, work, factory=CUDA_ENGINE)
