"""From a bundle on disk to something that recommends, with every part checked against the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from asterism.config import RunConfig, parse_run_config
from asterism.core import parts, records
from asterism.core.bundle import Bundle
from asterism.core.errors import BundleError
from asterism.core.hashing import hash_array, hash_texts
from asterism.core.ids import IdMap
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.attributes import UserAttributes
from asterism.decoding.content import ContentHead
from asterism.decoding.generator import Generator
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.neighbours import NeighbourHead
from asterism.models.ugt import UGT, ItemFeatures, load_ugt
from asterism.semantic_ids import load_semantic_ids


@dataclass(frozen=True, slots=True)
class TrainedRecommender:
    """All of a bundle that answering needs, in memory."""

    bundle: Bundle
    config: RunConfig
    items: pa.Table  # row i is item index i
    item_ids: IdMap
    item_vectors: NDArray[np.float32]  # (N, D)
    semantic_ids: SemanticIdTable
    policy: UGT
    generator: Generator
    attributes: UserAttributes | None = None  # where the model reads them


def load_recommender(bundle: Bundle, *, device: torch.device | str = "cpu") -> TrainedRecommender:
    """Load a bundle; raises `BundleError` naming the part that does not belong to the rest."""
    config = load_config(bundle)
    items = pq.read_table(bundle.part(parts.ITEMS))
    ids = IdMap(items[records.ITEM_ID].to_pylist())
    bundle.check_fact(parts.ITEMS, "items_hash", hash_texts(ids))
    table, _ = load_semantic_ids(bundle.part(parts.SEMANTIC_IDS))
    bundle.check_fact(parts.SEMANTIC_IDS, "semantic_ids_hash", hash_array(table.codes))
    vectors = _load_vectors(bundle)
    bundle.check_fact(parts.ITEM_VECTORS, "items", len(vectors))
    features = ItemFeatures(
        torch.from_numpy(table.codes).long(), table.codebook_sizes, torch.from_numpy(vectors).float()
    )
    policy = load_ugt(bundle.part(parts.MODEL_WEIGHTS), bundle.part(parts.MODEL), features).to(device)
    generator = Generator(policy, table, config.decoding, heads=_load_heads(bundle, config, vectors), device=device)
    attributes = _load_attributes(bundle) if config.model.user_attributes else None
    return TrainedRecommender(bundle, config, items, ids, vectors, table, policy, generator, attributes)


def _load_heads(bundle: Bundle, config: RunConfig, vectors: NDArray[np.float32]) -> HistoryHeads:
    """The heads that have weight."""
    content = ContentHead(vectors) if config.decoding.content_weight > 0 else None
    neighbours = None
    if config.decoding.neighbour_weight > 0:
        neighbours = NeighbourHead.load(bundle.part(parts.NEIGHBOURS), len(vectors))
    return HistoryHeads(content, neighbours)


def _load_attributes(bundle: Bundle) -> UserAttributes | None:
    """The users of the bundle; None where its data had no attributes."""
    return UserAttributes.of(pq.read_table(bundle.part(parts.USERS))) if bundle.has_part(parts.USERS) else None


def load_config(bundle: Bundle) -> RunConfig:
    """The run configuration of a bundle; raises `BundleError` or `ConfigError` where it cannot be read."""
    file = bundle.part(parts.CONFIG)
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is not valid JSON: {error}") from error
    return parse_run_config(raw, source=str(file))


def _load_vectors(bundle: Bundle) -> NDArray[np.float32]:
    file = bundle.part(parts.ITEM_VECTORS)
    try:
        vectors: NDArray[np.float32] = load_file(file)["vectors"]
    except (SafetensorError, KeyError) as error:
        raise BundleError(f"{file} holds no item vectors ({error}); train the bundle again") from error
    return vectors
