"""A language model by the same line as the UGT: trained, in a bundle, measured, served; and one trained elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asterism.cli.main import app
from asterism.config import parse_run_config
from asterism.core import parts
from asterism.core.bundle import Bundle
from asterism.core.errors import BundleError
from asterism.data.sequences import Sequences
from asterism.decoding.loading import load_recommender
from asterism.models.llm import LLM
from asterism.semantic_ids import write_index
from asterism.serving.engine.generator import load_engine
from asterism.serving.ports import EngineRequest, HistoryEvent
from asterism.training.pipeline import train_bundle

CONFIG = {
    "name": "tiny-llm",
    "data": {"path": "market"},
    "embeddings": {"text_model": "tfidf", "width": 32},
    "semantic_ids": {"codes": 8, "levels": 3},
    "model": {"kind": "llm", "max_events": 10},
    "llm": {
        "batch_tokens": 1024,
        "shape": {"width": 16, "layers": 1, "heads": 2, "key_value_heads": 1, "feed_forward": 24, "vocabulary": 300},
        "tasks": {"title_to_item": 0.2, "item_to_title": 0.2},
    },
    "training": {"epochs": 2, "learning_rate": 0.01, "warmup_steps": 5},
    "decoding": {"beam": 10},
    "evaluation": {"bootstrap_samples": 10},
}


@pytest.fixture(scope="module")
def llm_bundle(workshop: Path) -> Path:
    train_bundle(parse_run_config(CONFIG), workshop, workshop / "llm")
    return workshop / "llm"


def answers(bundle: Path) -> tuple[list[list[int]], np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    trained = load_recommender(Bundle.open(bundle))
    found = trained.generator.recommend(_histories(), 5)
    return found.items.tolist(), found.scores


def _histories() -> Sequences:
    times = np.arange(5, dtype=np.int64)
    return Sequences(np.array([0, 3, 5]), np.array([1, 2, 3, 9, 8], np.int32), times, np.ones(5, np.int8))


def test_the_folder_is_in_the_manifest_and_a_change_is_seen(llm_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(llm_bundle)
    assert {f"{parts.LANGUAGE_MODEL}/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")} <= set(
        bundle.manifest.parts
    )
    assert not bundle.has_part(parts.MODEL_WEIGHTS)
    file = llm_bundle / parts.LANGUAGE_MODEL / "config.json"
    before = file.read_text()
    file.write_text(before.replace("16", "17", 1))
    try:
        with pytest.raises(BundleError, match=r"language_model/config\.json was changed"):
            Bundle.open(llm_bundle)
    finally:
        file.write_text(before)


def test_it_is_measured_by_the_same_command(llm_bundle: Path, tmp_path: Path) -> None:
    command = ["evaluate", "--bundle", str(llm_bundle), "--json", str(tmp_path / "x.json"), "--no-baselines"]
    done = CliRunner().invoke(app, [*command, "--mode", "generate"])
    assert done.exit_code == 0, done.output
    assert "LLM, generate" in json.dumps(json.loads((tmp_path / "x.json").read_text())) + done.output


def test_the_item_head_has_no_weight_of_its_own(llm_bundle: Path) -> None:
    decoding = load_recommender(Bundle.open(llm_bundle)).config.decoding
    assert decoding.item_weight == 0
    assert decoding.code_weight + decoding.content_weight + decoding.neighbour_weight > 0


def test_it_is_served(llm_bundle: Path) -> None:
    trained = load_recommender(Bundle.open(llm_bundle))
    assert isinstance(trained.policy, LLM)
    names = [trained.item_ids.id_of(item) for item in (1, 2, 3)]
    request = EngineRequest(tuple(HistoryEvent(5, name, "click") for name in names), 5, frozenset(names))
    served, cold = load_engine(llm_bundle).recommend([request, EngineRequest((), 3)])
    assert len(served.items) == 5
    assert not {one.item_id for one in served.items} & set(names)
    assert len(cold.items) == 3, "a user without events gets the prior"


def test_a_folder_and_an_index_from_elsewhere_become_a_bundle(workshop: Path, llm_bundle: Path) -> None:
    """What another program left: its model, its tokenizer with the tokens, its index; nothing is trained."""
    trained = load_recommender(Bundle.open(llm_bundle))
    write_index(workshop / "theirs.index.json", list(trained.item_ids), trained.semantic_ids)
    base = {"base": f"llm/{parts.LANGUAGE_MODEL}", "index": "theirs.index.json", "mode": "none"}
    config = {**CONFIG, "llm": base, "decoding": trained.config.decoding.model_dump() | {"choose_weights": False}}
    train_bundle(parse_run_config(config), workshop, workshop / "theirs")
    (items, scores), (expected, of_expected) = answers(workshop / "theirs"), answers(llm_bundle)
    assert items == expected
    np.testing.assert_allclose(scores, of_expected, rtol=1e-5)
