"""A model on disk is the model in memory, and what does not fit is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asterism.config import ModelConfig
from asterism.core.errors import BundleError
from asterism.models.ugt import UGT, ItemFeatures, UGTShape, load_ugt, save_ugt
from models.small_ugt import EVERYTHING, batch_of, full_sequences, make_features, make_model


def features(items: int = 6) -> ItemFeatures:
    return ItemFeatures(torch.tensor([[item // 3, item % 3] for item in range(items)]), (2, 3), torch.randn(items, 4))


def saved(folder: Path) -> tuple[UGT, ItemFeatures]:
    torch.manual_seed(0)
    known = features()
    model = UGT(known, UGTShape(ModelConfig(width=8, heads=2, blocks=1, max_events=4), 0.1)).eval()
    save_ugt(model, folder / "model.safetensors", folder / "model.json")
    return model, known


def load(folder: Path, known: ItemFeatures) -> UGT:
    return load_ugt(folder / "model.safetensors", folder / "model.json", known)


def test_what_was_saved_scores_as_before(tmp_path: Path) -> None:
    model, known = saved(tmp_path)
    again = load(tmp_path, known)
    assert not again.training
    with torch.inference_mode():
        state = torch.randn(2, 16)
        torch.testing.assert_close(again.item_scores(state), model.item_scores(state), rtol=0, atol=0)
    assert again.shape == model.shape


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    _, known = saved(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["start"]
    weights["norm.bias"] = torch.zeros(3)
    weights["extra"] = torch.zeros(1)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(BundleError, match=r"no start, extra is not known, norm.bias is \(3,\) instead of \(8,\)"):
        load(tmp_path, known)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="is not a safetensors file"):
        load(tmp_path, known)


def test_a_model_of_another_catalogue_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(BundleError, match="knows 6 items, the semantic ids 5"):
        load(tmp_path, features(5))
    other = ItemFeatures(torch.zeros(6, 2, dtype=torch.long), (2, 9), torch.randn(6, 4))
    with pytest.raises(BundleError, match=r"codes of sizes \(2, 3\), the semantic ids have \(2, 9\)"):
        load(tmp_path, other)


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"model": {"widht": 3}})])
def test_a_broken_shape_is_a_sentence(tmp_path: Path, text: str) -> None:
    _, known = saved(tmp_path)
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(BundleError, match="does not describe a UGT"):
        load(tmp_path, known)


def test_every_switch_survives_the_disk(tmp_path: Path) -> None:
    model = make_model(**EVERYTHING)
    save_ugt(model, tmp_path / "model.safetensors", tmp_path / "model.json")
    again = load(tmp_path, make_features())
    assert again.shape == model.shape
    assert again.layout == model.layout
    batch = batch_of(model, full_sequences([3, 25, 0]))
    with torch.inference_mode():
        torch.testing.assert_close(again.encode(batch), model.encode(batch), rtol=0, atol=0)


def test_a_shape_written_before_there_were_switches_has_none_of_them_on(tmp_path: Path) -> None:
    model, known = saved(tmp_path)
    shape = json.loads((tmp_path / "model.json").read_text())
    old = {"width", "blocks", "heads", "max_events", "dropout", "id_vectors", "content"}
    shape["model"] = {name: value for name, value in shape["model"].items() if name in old}
    (tmp_path / "model.json").write_text(json.dumps(shape))
    assert load(tmp_path, known).shape == model.shape


def test_a_pooling_written_when_its_gain_was_a_scalar_still_opens(tmp_path: Path) -> None:
    model = make_model(recency_pooling=True)
    weights, description = tmp_path / "model.safetensors", tmp_path / "model.json"
    save_ugt(model, weights, description)
    older = load_file(weights)
    older["pooling.gain"] = older["pooling.gain"].reshape(())
    save_file(older, weights)
    again = load_ugt(weights, description, make_features())
    torch.testing.assert_close(again.state_dict()["pooling.gain"], model.state_dict()["pooling.gain"], rtol=0, atol=0)
