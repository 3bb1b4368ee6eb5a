"""A language model through the loop: it learns a known world, resumes to the same weights, and opens other bases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

import worlds
from asterism.config import DecodingConfig, LLMConfig, ModelConfig, RunConfig, TaskWeights, TrainingConfig
from asterism.core.errors import ConfigError, DataError, ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.split import Split
from asterism.models.llm import LLM
from asterism.semantic_ids import ItemPaths, paths_of, read_index
from asterism.training import language
from asterism.training.course import Course
from asterism.training.language import LanguageRun, train_llm
from asterism.training.loop import FitResult, Sitting, Validation, fit_course
from models.small_llm import make_language, make_shape

ITEMS = 30
TABLE = SemanticIdTable(np.array([[item // 6, item % 6, 0] for item in range(ITEMS)]), (5, 6, 1))
CATALOGUE = pa.table({"item_id": [f"item-{item}" for item in range(ITEMS)], "title": [f"t {i}" for i in range(ITEMS)]})
SPLIT = worlds.markov_chain(items=ITEMS)


class Interrupted(Exception):
    """What a test raises in place of a power cut."""


def make_config(epochs: int = 12, **llm: object) -> RunConfig:
    shape = make_shape(context=64)
    return worlds.run_config(
        model=ModelConfig(kind="llm", max_events=8),
        llm=LLMConfig.model_validate({"shape": shape, "batch_tokens": 256, **llm}),
        training=TrainingConfig(epochs=epochs, patience=epochs, learning_rate=1e-2, warmup_steps=5),
        decoding=DecodingConfig(beam=10),
    )


def make_run(folder: Path, config: RunConfig | None = None, split: Split = SPLIT) -> LanguageRun:
    return LanguageRun(config or make_config(), folder, split, CATALOGUE, TABLE, folder / "run")


def saved_base(folder: Path, **shape: object) -> str:
    """A model without semantic ids, as it comes from elsewhere."""
    made = make_language(make_shape(**shape))
    text_only = made.causal
    text_only.resize_token_embeddings(300, mean_resizing=False)
    text_only.save_pretrained(folder / "base")
    tokenizer = language.train_tokenizer(["t 1", "t 2"], 300, 64)
    tokenizer.save_pretrained(folder / "base")
    return "base"


def test_it_learns_the_successor_of_every_item(tmp_path: Path) -> None:
    model, result = train_llm(make_run(tmp_path), resume=False)
    assert result.best_ndcg_at_10 > 0.9, "every item has one successor"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == result.epochs
    assert {"loss", "loss_codes", "loss_text", "validation_ndcg_at_10"} <= lines[0].keys()
    assert not model.training


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(epochs=3, tasks=TaskWeights(title_to_item=0.5, item_to_title=0.5))
    straight, _ = train_llm(make_run(tmp_path / "straight", config), resume=False)

    def breaks_off(course: Course, sitting: Sitting, *, resume: bool) -> FitResult:
        calls = iter(range(9))

        def validate() -> Validation:
            if next(calls) == 2:
                raise Interrupted
            return sitting.validate()

        return fit_course(course, replace(sitting, validate=validate), resume=resume)

    broken = make_run(tmp_path / "broken", config)
    with monkeypatch.context() as patch:
        patch.setattr(language, "fit_course", breaks_off)
        with pytest.raises(Interrupted):
            train_llm(broken, resume=False)
    resumed, result = train_llm(make_run(tmp_path / "broken", config), resume=True)
    assert result.epochs == 3
    for (name, one), other in zip(straight.named_parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("mode", ["embeddings", "lora", "full"])
def test_a_base_from_elsewhere_is_fine_tuned(tmp_path: Path, mode: str) -> None:
    base = saved_base(tmp_path)
    model, _ = train_llm(make_run(tmp_path, make_config(epochs=1, base=base, mode=mode, lora_rank=2)), resume=False)
    untouched = language.open_model(str(tmp_path / base))[0]
    model.merge()
    before, after = untouched.get_input_embeddings().weight, model.language.get_input_embeddings().weight
    words = len(model.tokenizer) - len(model.code_ids())
    moved = [name for name, one in untouched.named_parameters() if "layers" in name
             and not torch.equal(one, model.language.get_parameter(name))]  # fmt: skip
    assert (len(moved) > 0) == (mode != "embeddings")
    assert torch.equal(before[:words], after[:words]) == (mode != "full")
    assert not torch.equal(after[words:], before[: len(after) - words])


def test_what_was_trained_elsewhere_is_taken_as_it_is(tmp_path: Path) -> None:
    trained, _ = train_llm(make_run(tmp_path, make_config(epochs=2)), resume=False)
    trained.language.save_pretrained(tmp_path / "theirs")
    trained.tokenizer.save_pretrained(tmp_path / "theirs")
    config = make_config(base="theirs", mode="none", index="index.json")
    model, result = train_llm(make_run(tmp_path, config), resume=False)
    assert (result.epochs, result.stopped) == (0, "nothing was to be trained")
    assert result.best_ndcg_at_10 > 0.2
    for one, other in zip(trained.language.parameters(), model.language.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ConfigError, match="already speaks semantic ids, which are not those made here"):
        train_llm(make_run(tmp_path, make_config(base="theirs", mode="full")), resume=False)


def test_an_index_whose_tokens_the_model_lacks_is_a_sentence(tmp_path: Path) -> None:
    config = make_config(base=saved_base(tmp_path), mode="none", index="index.json")
    with pytest.raises(ModelError, match="lacks 11 tokens of the catalogue's semantic ids, the first is <a_0>"):
        train_llm(make_run(tmp_path, config), resume=False)


def test_an_index_of_other_items_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "x.index.json"
    file.write_text(json.dumps({"a": ["<a_1>", "<b_2>"], "b": ["<a_1>", "<b_0>"]}))
    index: ItemPaths = read_index(file)
    assert paths_of(index, ["b", "a"], "x").tolist() == [[1, 0], [1, 2]]
    with pytest.raises(DataError, match="no semantic id for 2 of the catalogue's 3 items, the first of them 'c'"):
        paths_of(index, ["a", "c", "d"], "x")
    with pytest.raises(
        DataError, match="names what is not among the catalogue's 1 items: 1, the first of them 'b'; give"
    ):
        paths_of(index, ["a"], "x")


def test_the_weights_of_frozen_parts_are_not_kept_twice(tmp_path: Path) -> None:
    config = make_config(epochs=1, base=saved_base(tmp_path), mode="embeddings")
    train_llm(make_run(tmp_path, config), resume=False)
    best = load_file(tmp_path / "run" / "checkpoint" / "best.safetensors")
    assert set(best) == {"causal.model.embed_tokens.inputs"}


def test_an_llm_is_what_comes_out(tmp_path: Path) -> None:
    model, _ = train_llm(make_run(tmp_path, make_config(epochs=1)), resume=False)
    assert isinstance(model, LLM)
    assert model.max_events == 8
