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
from asterism.core.errors import BundleError, ModelError
from asterism.core.hashing import hash_array, hash_texts
from asterism.core.ids import IdMap
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.attributes import UserAttributes
from asterism.decoding.content import ContentHead
from asterism.decoding.generator import Generator
from asterism.decoding.history_heads import HistoryHeads
from asterism.decoding.neighbours import NeighbourHead
from asterism.decoding.state_cache import CacheLimits, StateCache
from asterism.models.llm import load_llm
from asterism.models.policy import Policy
from asterism.models.trained import TrainedModel
from asterism.models.ugt import UGT, ItemFeatures, load_ugt
from asterism.models.ugt.inference import InferenceUGT, Precision
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
    policy: TrainedModel
    generator: Generator
    attributes: UserAttributes | None = None  # where the model reads them
    states: StateCache | None = None  # of returning users, where any are kept

    @property
    def ugt(self) -> UGT:
        """The model; raises `ModelError` where it is no UGT, of which alone graphs can be made."""
        if not isinstance(self.policy, UGT):
            raise ModelError(
                f"the bundle holds a {type(self.policy).__name__}, and only a UGT can be written as graphs; "
                "serve it with `asterism serve --device cpu`"
            )
        return self.policy


def load_recommender(
    bundle: Bundle,
    *,
    device: torch.device | str = "cpu",
    precision: Precision | None = None,
    state_cache: CacheLimits | None = None,
) -> TrainedRecommender:
    """Load a bundle; raises `BundleError` naming the part that does not belong to the rest.

    On a CPU it answers in `precision`, or else the configuration's `decoding.precision`, and keeps the states of
    returning users in a cache where it is given limits; elsewhere the model answers as it was trained.
    """
    config = load_config(bundle)
    items = pq.read_table(bundle.part(parts.ITEMS))
    ids = IdMap(items[records.ITEM_ID].to_pylist())
    bundle.check_fact(parts.ITEMS, "items_hash", hash_texts(ids))
    table, _ = load_semantic_ids(bundle.part(parts.SEMANTIC_IDS))
    bundle.check_fact(parts.SEMANTIC_IDS, "semantic_ids_hash", hash_array(table.codes))
    vectors = _load_vectors(bundle)
    bundle.check_fact(parts.ITEM_VECTORS, "items", len(vectors))
    policy = _load_model(bundle, config, table, vectors).to(device)
    answering, states = _on_device(policy, precision or config.decoding.precision, device, state_cache)
    heads = _load_heads(bundle, config, vectors)
    generator = Generator(answering, table, config.decoding, heads=heads, device=device, states=states)
    attributes = _load_attributes(bundle) if config.model.user_attributes else None
    return TrainedRecommender(bundle, config, items, ids, vectors, table, policy, generator, attributes, states)


def _on_device(
    policy: TrainedModel, precision: Precision, device: torch.device | str, state_cache: CacheLimits | None
) -> tuple[Policy, StateCache | None]:
    if not isinstance(policy, UGT) or torch.device(device).type != "cpu":
        return policy, None
    answering = InferenceUGT(policy, precision)
    return answering, None if state_cache is None else StateCache(answering, state_cache)


def _load_model(
    bundle: Bundle, config: RunConfig, table: SemanticIdTable, vectors: NDArray[np.float32]
) -> TrainedModel:
    if config.model.kind == "llm":
        return load_llm(bundle.folder(parts.LANGUAGE_MODEL), bundle.part(parts.MODEL), table)
    features = ItemFeatures(
        torch.from_numpy(table.codes).long(), table.codebook_sizes, torch.from_numpy(vectors).float()
    )
    return load_ugt(bundle.part(parts.MODEL_WEIGHTS), bundle.part(parts.MODEL), features)


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
