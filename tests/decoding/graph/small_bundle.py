"""A small catalogue whose tree branches everywhere, models over it, and a whole bundle of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save_file

from asterism.config import ModelConfig, parse_run_config
from asterism.core import parts
from asterism.core.bundle import Bundle, BundleWriter
from asterism.core.hashing import hash_array, hash_texts
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding.content import ContentHead
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.neighbours import NeighbourHead
from asterism.models.ugt import UGT, ItemFeatures, UGTShape, save_ugt

ITEMS = 60
SIZES = (4, 5, 3, 2)
ITEM_IDS = [f"item {number}" for number in range(ITEMS)]


def features() -> ItemFeatures:
    """Sixty of the 120 possible paths; below the last first code only one second code is known."""
    random = np.random.default_rng(5)
    paths = random.choice(95, ITEMS, replace=False)
    codes = torch.from_numpy(np.stack(np.unravel_index(paths, SIZES), axis=1))
    return ItemFeatures(codes, SIZES, torch.from_numpy(random.normal(size=(ITEMS, 6))).float())


def table() -> SemanticIdTable:
    return SemanticIdTable(features().codes.numpy(), SIZES)


def model(**changes: object) -> UGT:
    """A model whose parameters all differ from what they start as."""
    torch.manual_seed(1)
    config = ModelConfig(width=8, blocks=2, heads=2, max_events=5, dropout=0.0).model_copy(update=changes)
    made = UGT(features(), UGTShape(config, temperature=0.1)).eval()
    with torch.no_grad():
        for one in made.parameters():
            one.add_(torch.randn_like(one) * 0.3)
    return made


def histories(lengths: list[int], seed: int = 0) -> Sequences:
    """Random rows of so many events."""
    random = np.random.default_rng(seed)
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    events = int(offsets[-1])
    times = np.sort(random.integers(0, 10**6, events))
    items, actions = random.integers(0, ITEMS, events), random.integers(0, 10, events)
    return Sequences(offsets, items.astype(np.int32), times, actions.astype(np.int8))


def heads() -> HistoryHeads:
    """The content's and the neighbours' head."""
    return HistoryHeads(ContentHead(features().content), NeighbourHead.learn(histories([9] * 40, seed=3), ITEMS))


def write_bundle(target: Path, **changes: object) -> Bundle:
    """A bundle that `load_recommender` takes, of four users, all heads with weight."""
    made, writer, known = model(**changes), BundleWriter(target), features()
    settings = {"beam": 20, "code_weight": 0.3, "content_weight": 1.5, "neighbour_weight": 4.0, "choose_weights": False}
    raw = {"name": "small", "data": {"path": "."}, "model": made.shape.model.model_dump(), "decoding": settings}
    writer.part(parts.CONFIG).write_text(parse_run_config(raw).model_dump_json(), encoding="utf-8")
    pq.write_table(pa.table({"item_id": ITEM_IDS, "title": ITEM_IDS}), writer.part(parts.ITEMS))
    pq.write_table(_log(), writer.part(parts.HISTORIES))
    people = {"user_id": ["ada", "bob", "cleo", "dan"], "city": ["Rome", "Rome", "Oslo", "Oslo"]}
    pq.write_table(pa.table(people), writer.part(parts.USERS))
    save_file({"vectors": known.content.numpy()}, writer.part(parts.ITEM_VECTORS))
    found = heads().neighbours
    assert found is not None
    found.save(writer.part(parts.NEIGHBOURS))
    books = {f"codebook_{level}": np.zeros((size, 6), np.float32) for level, size in enumerate(SIZES[:-1])}
    codes = {"codes": table().codes, "codebook_sizes": np.array(SIZES)}
    save_file({**codes, **books}, writer.part(parts.SEMANTIC_IDS))
    save_ugt(made, writer.part(parts.MODEL_WEIGHTS), writer.part(parts.MODEL))
    facts = {
        "items": ITEMS,
        "items_hash": hash_texts(ITEM_IDS),
        "semantic_ids_hash": hash_array(table().codes),
    }
    return writer.commit(facts=facts)


def _log() -> pa.Table:
    """Four users of 2, 7, 12 and 17 events with all columns."""
    random = np.random.default_rng(0)
    users = [user for place, user in enumerate(["ada", "bob", "cleo", "dan"]) for _ in range(2 + 5 * place)]
    count = len(users)
    return pa.table(
        {
            "user_id": users,
            "item_id": [ITEM_IDS[item] for item in random.integers(0, ITEMS, count)],
            "timestamp": np.sort(random.integers(1000, 10**6, count)),
            "action": random.choice(["click", "rating", "purchase"], count).tolist(),
            "value": pa.array(random.integers(1, 6, count).astype(float), mask=random.random(count) < 0.5),
            "scene": random.choice(["home", "search"], count).tolist(),
            "device": random.choice(["phone", "desk"], count).tolist(),
        }
    )
