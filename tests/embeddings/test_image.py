"""The image part on a tiny CLIP model in a folder: real loading, files and URIs, the cache, and what cannot be read."""

from __future__ import annotations

import io
import json
import shutil
import sys
from base64 import b64encode
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from asterism.config import EmbeddingConfig
from asterism.core.errors import BundleError, MissingDependencyError, ModelError
from asterism.data.sequences import Sequences
from asterism.embeddings import ImageWarning, ItemEmbedder, contrastive
from asterism.embeddings.image import image_part
from asterism.embeddings.image_encoder import ImageEncoder
from asterism.embeddings.image_files import StoredImage, find_images
from worlds import sequences_of

Image = pytest.importorskip("PIL.Image", reason="the `image` extra is not installed")
transformers = pytest.importorskip("transformers", reason="the `image` extra is not installed")

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 40), "blue": (20, 30, 230)}
SIDE = 32


def write_model(folder: Path, seed: int = 0) -> Path:
    """A CLIP model of random weights with its image processor, as `save_pretrained` leaves them."""
    torch.manual_seed(seed)
    text = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=text | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config=vision | {"image_size": SIDE, "patch_size": 8},
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": SIDE}, "crop_size": square}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def png(colour: tuple[int, ...], mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (40, 48), colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, colour in COLOURS.items():
        (tmp_path / f"{name}.png").write_bytes(png(colour))
    return tmp_path


def stored(*contents: bytes) -> list[StoredImage]:
    return [StoredImage(str(row), content) for row, content in enumerate(contents)]


def test_equal_pictures_get_equal_vectors_however_they_are_given(model: Path, pictures: Path) -> None:
    (pictures / "again.png").write_bytes(png(COLOURS["red"]))
    uri = "data:image/png;base64," + b64encode(png(COLOURS["red"])).decode()
    values = ["red.png", str(pictures / "red.png"), uri, "again.png", "blue.png", None, ""]
    part = image_part(pa.table({"image": values}), ImageEncoder(str(model)), pictures, None)
    assert part.present.tolist() == [True] * 5 + [False] * 2
    assert part.width == 16
    for row in (1, 2, 3):
        assert_array_equal(part.vectors[row], part.vectors[0])
    assert not np.allclose(part.vectors[4], part.vectors[0], atol=1e-3)
    assert_allclose(np.linalg.norm(part.vectors[:5], axis=1), 1, rtol=1e-5)


def test_vectors_are_the_models_own_features(model: Path) -> None:
    """The slow twin: transformers called directly in fp32 on one picture."""
    processor = transformers.AutoImageProcessor.from_pretrained(model, backend="pil")
    plain = transformers.AutoModel.from_pretrained(model)
    picture = Image.open(io.BytesIO(png(COLOURS["green"])))
    with torch.inference_mode():
        features = plain.get_image_features(**processor(images=[picture], return_tensors="pt")).pooler_output[0].numpy()
    (vector,) = ImageEncoder(str(model)).encode(stored(png(COLOURS["green"])))
    assert float(vector @ features / np.linalg.norm(features)) > 0.999


def test_batches_do_not_matter(model: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [io.BytesIO() for _ in range(40)]
    for stream in noise:
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(stream, "PNG")
    contents = [stream.getvalue() for stream in noise]
    encoder = ImageEncoder(str(model))
    together = encoder.encode(stored(*contents))
    assert_array_equal(encoder.encode(stored(*contents)), together)
    alone = np.concatenate([encoder.encode(stored(one)) for one in contents[:3] + contents[-3:]])
    assert (alone * together[[0, 1, 2, -3, -2, -1]]).sum(axis=1).min() > 0.999


def test_transparent_pictures_lie_on_white(model: Path) -> None:
    encoder = ImageEncoder(str(model))
    clear, white = encoder.encode(stored(png((0, 0, 0, 0), "RGBA"), png((255, 255, 255))))
    assert_allclose(clear, white, atol=0.01)  # rows of one batch may differ in their last bits
    black = encoder.encode(stored(png((0, 0, 0))))
    assert np.abs(black - white).max() > 0.05


def test_one_warning_counts_what_cannot_be_read(model: Path, pictures: Path) -> None:
    (pictures / "cut.png").write_bytes(png(COLOURS["red"])[:60])
    (pictures / "text.png").write_text("no picture")
    (pictures / "drawn.svg").write_text('<?xml version="1.0"?><svg/>')
    values = ["red.png", "cut.png", "text.png", "gone.png", "drawn.svg", "<svg/>", "https://x.test/a.png"]
    values += ["data:image/svg+xml,%3Csvg/%3E", "data:image/png;base64,!", "a\0b", None]
    items = pa.table({"image": values})
    with pytest.warns(ImageWarning) as caught:
        part = image_part(items, ImageEncoder(str(model)), pictures, None)
    assert part.present.tolist() == [True] + [False] * 10
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith("9 of 11 items have an image that gives no vector")
    assert "3 (first: drawn.svg) are SVG drawings" in message
    assert "1 (first: https://x.test/a.png) are web addresses" in message
    assert "5 (first: gone.png) are missing, cut off or no images" in message


def test_the_cache_spares_the_model_and_still_warns(model: Path, pictures: Path) -> None:
    (pictures / "cut.png").write_bytes(png(COLOURS["red"])[:60])
    cache = pictures / "cache"
    items = pa.table({"image": ["red.png", "cut.png", "blue.png"]})
    with pytest.warns(ImageWarning, match=r"1 of 3 .* \(first: cut.png\)"):
        first = image_part(items, ImageEncoder(str(model)), pictures, cache)
    (file,) = cache.iterdir()
    encoder = ImageEncoder(str(model))
    with pytest.warns(ImageWarning, match=r"1 of 3 .* \(first: cut.png\)"):
        turned = image_part(items.take([2, 1, 0]), encoder, pictures, cache)
    assert not encoder.loaded
    assert list(cache.iterdir()) == [file]
    assert_array_equal(turned.vectors, first.vectors[::-1])
    (pictures / "red.png").write_bytes(png((1, 2, 3)))
    with pytest.warns(ImageWarning):
        image_part(items, encoder, pictures, cache)
    assert encoder.loaded
    assert len(list(cache.iterdir())) == 2
    with pytest.warns(ImageWarning):
        other = image_part(items, ImageEncoder(str(write_model(pictures / "other", seed=1))), pictures, cache)
    assert not np.allclose(other.vectors[2], first.vectors[2], atol=0.1)


def test_no_picture_at_all_loads_nothing(model: Path, tmp_path: Path) -> None:
    encoder = ImageEncoder(str(model))
    with pytest.warns(ImageWarning, match="2 of 2 items"):
        part = image_part(pa.table({"image": ["<svg/>", "<svg/>"]}), encoder, tmp_path, tmp_path)
    assert not part.present.any()
    assert not image_part(pa.table({"title": ["x"]}), encoder, tmp_path, None).present.any()
    assert not encoder.loaded


def test_folders_that_hold_no_such_model_are_named(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a folder here; put the model's files there"):
        ImageEncoder(str(tmp_path / "none")).encode(stored(png((1, 2, 3))))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be loaded"):
        ImageEncoder(str(tmp_path / "empty")).encode(stored(png((1, 2, 3))))
    text = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertModel(text).save_pretrained(tmp_path / "bert")
    shutil.copy(model / "preprocessor_config.json", tmp_path / "bert")
    with pytest.raises(ModelError, match="holds a BertModel, which makes no vectors of images"):
        ImageEncoder(str(tmp_path / "bert")).encode(stored(png((1, 2, 3))))


def test_without_transformers_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"asterism\[image\]"):
        ImageEncoder(str(model)).encode(stored(png((1, 2, 3))))


def test_relative_paths_start_at_the_folder(pictures: Path) -> None:
    (pictures / "under").mkdir()
    (pictures / "under" / "red.png").write_bytes(png((1, 2, 3)))
    found = find_images(["red.png", "under/red.png"], pictures)
    assert len(set(found.digests)) == 2
    assert not found.refused


CONFIG = EmbeddingConfig(text_weight=0, structured_weight=0, collaborative_weight=0, width=8)
NOTHING = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int8))


def test_the_embedder_keeps_its_image_model(model: Path, pictures: Path) -> None:
    items = pa.table({"item_id": ["a", "b", "c"], "image": ["red.png", "green.png", "blue.png"]})
    config = CONFIG.model_copy(update={"image_model": str(model)})
    embedder, vectors = ItemEmbedder.fit(items, NOTHING, config, cache=pictures / "cache", images=pictures)
    arrays, description = pictures / "e.safetensors", pictures / "e.json"
    embedder.save(arrays, description)
    loaded = ItemEmbedder.load(arrays, description)
    assert_allclose(loaded.embed(items, pictures), vectors, atol=0.02)
    assert vectors.any(axis=1).all()
    assert not loaded.embed(pa.table({"item_id": ["new"]})).any()
    with pytest.warns(ImageWarning):
        assert not loaded.embed(pa.table({"image": ["gone.png"]}), pictures).any()
    elsewhere = json.loads(description.read_text()) | {"image_model": str(write_model(pictures / "other", seed=1))}
    description.write_text(json.dumps(elsewhere))
    with pytest.raises(ModelError, match="the image model here is not the one"):
        ItemEmbedder.load(arrays, description).embed(items, pictures)
    description.write_text(json.dumps(elsewhere | {"image_model": str(pictures / "gone")}))
    with pytest.raises(ModelError, match="is not a folder here"):
        ItemEmbedder.load(arrays, description).embed(items, pictures)
    description.write_text(json.dumps(elsewhere | {"fields_by_kind": 3}))
    with pytest.raises(BundleError):
        ItemEmbedder.load(arrays, description)


@pytest.mark.parametrize("fusion", ["linear", "contrastive"])
def test_an_item_without_its_picture_stays_beside_its_twin(
    model: Path, tmp_path: Path, fusion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrastive, "MAX_ROUNDS", 2)
    rng = np.random.default_rng(0)
    for name in range(20):
        pixels = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    pictures = [f"{item // 2}.png" for item in range(40)]
    for item in (4, 17, 30):
        pictures[item] = "gone.png"
    words = [" ".join(rng.choice(list("abcdefghijklmnop"), size=6)) for _ in range(20)]
    items = pa.table({"title": [words[item // 2] for item in range(40)], "image": pictures})
    config = EmbeddingConfig(text_model="tfidf", image_model=str(model), fusion=fusion, width=32)
    train = sequences_of(rng.integers(0, 40, size=(30, 4)).tolist())
    with pytest.warns(ImageWarning, match="3 of 40"):
        _, vectors = ItemEmbedder.fit(items, train, config, cache=tmp_path / "cache", images=tmp_path)
    for item in (4, 17, 30):
        distances = np.square(vectors - vectors[item]).sum(axis=1)
        distances[item] = np.inf
        assert distances.argmin() == item ^ 1


def test_a_missing_model_is_told_before_any_image_is_read(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"image_model": str(tmp_path / "none")})
    with pytest.raises(ModelError, match="is not a folder here"):
        ItemEmbedder.fit(pa.table({"item_id": ["a"]}), NOTHING, config, cache=tmp_path)
