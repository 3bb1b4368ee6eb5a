"""A language model on disk: ours, and a folder that another program trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import worlds
from asterism.core.errors import BundleError, ModelError
from asterism.core.semantic_id import SemanticIdTable
from asterism.models.llm import LLM, LanguageModel, load_llm, save_llm
from asterism.models.llm.backbone import open_model
from asterism.models.policy import read_histories
from models.small_llm import CODES, FAMILIES, SIZES, make_language, make_llm, make_shape, make_table


def answers(model: LLM) -> torch.Tensor:
    with torch.inference_mode():
        return model.item_scores(model.encode(read_histories(model, worlds.sequences_of([[1, 2], [3]]))))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_what_was_saved_scores_as_before(tmp_path: Path, family: str, tied: bool) -> None:
    model = make_llm(make_shape(family=family, tied=tied))
    (tmp_path / "hf").mkdir()
    save_llm(model, tmp_path / "hf", tmp_path / "model.json")
    again = load_llm(tmp_path / "hf", tmp_path / "model.json", make_table())
    assert not again.training
    assert (again.config, again.max_events) == (model.config, model.max_events)
    torch.testing.assert_close(answers(again), answers(model), rtol=0, atol=0)


def test_a_model_of_another_catalogue_or_a_broken_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    save_llm(make_llm(), tmp_path / "hf", tmp_path / "model.json")
    with pytest.raises(BundleError, match="knows 12 items with codes of sizes"):
        load_llm(tmp_path / "hf", tmp_path / "model.json", SemanticIdTable(CODES[:5], SIZES))
    (tmp_path / "hf" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="cannot be loaded"):
        load_llm(tmp_path / "hf", tmp_path / "model.json", make_table())
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(BundleError, match="does not describe an LLM"):
        load_llm(tmp_path / "hf", tmp_path / "model.json", make_table())


@pytest.mark.parametrize("inherited", ['{"temperature": 0.6, "top_k": 20, "do_sample": false}', "no JSON at all"])
def test_a_folder_that_another_program_trained_is_read(tmp_path: Path, inherited: str) -> None:
    """Three levels of tokens in the tokenizer, and a generation_config.json that came with the base."""
    language = make_language(make_shape(family="qwen2"))
    language.causal.save_pretrained(tmp_path)
    language.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(inherited)
    causal, tokenizer = open_model(str(tmp_path))
    read = LLM(LanguageModel(causal, tokenizer, "a folder"), make_table(), make_llm().config, 5).eval()
    made = LLM(language, make_table(), make_llm().config, 5).eval()
    torch.testing.assert_close(answers(read), answers(made), rtol=0, atol=0)
    (tmp_path / "again").mkdir()
    save_llm(read, tmp_path / "again", tmp_path / "model.json")
    assert json.loads((tmp_path / "again" / "generation_config.json").read_text()).keys().isdisjoint({"temperature"})


def test_what_is_no_causal_language_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model that can be read"):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    with pytest.raises(ModelError, match="holds a BertModel, which writes no text"):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nobody-knows"}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_model(str(tmp_path))
    with pytest.raises(ModelError, match="the name of such a model on the hub"):
        open_model("nobody/nothing-of-the-kind")
