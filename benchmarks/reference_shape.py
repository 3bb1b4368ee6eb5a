"""The reference shape of decoding figures as a bundle: a UGT with random weights, whose values cost nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save_file

from asterism.config import DataConfig, DecodingConfig, ModelConfig, RunConfig, SemanticIdConfig, TrainingConfig
from asterism.core import parts
from asterism.core.bundle import Bundle, BundleWriter
from asterism.core.hashing import hash_array, hash_texts
from asterism.models.ugt import UGT, ItemFeatures, UGTShape, save_ugt
from asterism.models.ugt.inference import Precision
from asterism.semantic_ids import Codebooks, save_semantic_ids
from trie import CODES, make_table

VECTOR_WIDTH = 64
MODEL = ModelConfig(width=128, blocks=4, heads=4, max_events=50)


def write_reference_bundle(
    path: Path,
    *,
    items: int = 10_000,
    beam: int = 20,
    users: int = 0,
    seed: int = 0,
    catalogue: pa.Table | None = None,
    precision: Precision = "fp32",
) -> Bundle:
    """Three levels of 256 codes and a de-duplicating one; width 128, 4 blocks, 50 events, the items' own vectors.

    With `users`, each of them has a history of fifty items at random. A catalogue has the ids of `item_ids_of(items)`
    in their order; without one, items have nothing but titles. The engine answers in `precision`.
    """
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    table = make_table(items, random)
    vectors = random.normal(size=(items, VECTOR_WIDTH)).astype(np.float32)
    config = RunConfig(
        name="reference",
        data=DataConfig(path="made"),
        semantic_ids=SemanticIdConfig(codes=CODES),
        model=MODEL,
        decoding=DecodingConfig(beam=beam, precision=precision),
    )
    features = ItemFeatures(torch.from_numpy(table.codes).long(), table.codebook_sizes, torch.from_numpy(vectors))
    centroids = tuple(random.normal(size=(CODES, VECTOR_WIDTH)).astype(np.float32) for _ in range(table.levels - 1))
    item_ids = item_ids_of(items)
    writer = BundleWriter(path)
    writer.part(parts.CONFIG).write_text(config.model_dump_json(), encoding="utf-8")
    titles = pa.table({"item_id": item_ids, "title": item_ids})
    pq.write_table(titles if catalogue is None else catalogue, writer.part(parts.ITEMS))
    if users:
        pq.write_table(_histories(item_ids, users, random), writer.part(parts.HISTORIES))
    save_file({"vectors": vectors}, writer.part(parts.ITEM_VECTORS))
    save_semantic_ids(writer.part(parts.SEMANTIC_IDS), table, Codebooks(centroids))
    model = UGT(features, UGTShape(MODEL, TrainingConfig().temperature))
    save_ugt(model, writer.part(parts.MODEL_WEIGHTS), writer.part(parts.MODEL))
    return writer.commit(
        {"items": items, "items_hash": hash_texts(item_ids), "semantic_ids_hash": hash_array(table.codes)}
    )


def item_ids_of(items: int) -> list[str]:
    """The ids of the catalogue, by item index."""
    return [f"item-{number:06d}" for number in range(items)]


def _histories(item_ids: list[str], users: int, random: np.random.Generator) -> pa.Table:
    events = MODEL.max_events
    taken = random.integers(len(item_ids), size=users * events)
    return pa.table(
        {
            "user_id": [f"user-{number // events:06d}" for number in range(users * events)],
            "item_id": [item_ids[one] for one in taken],
            "timestamp": [1_700_000_000 + number % events for number in range(users * events)],
            "action": ["click"] * (users * events),
        }
    )
