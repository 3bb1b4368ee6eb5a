"""Puts a trained recommender and all it needs later into one bundle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from asterism import __version__
from asterism.config import RunConfig
from asterism.core import parts, records
from asterism.core.bundle import Bundle, BundleWriter
from asterism.core.errors import StorageError
from asterism.core.hashing import hash_array, hash_texts
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.attributes import categorical_columns
from asterism.data.dataset import Dataset
from asterism.data.repeats import codes_of, take_rows
from asterism.decoding.neighbours import NeighbourHead
from asterism.embeddings import ItemEmbedder
from asterism.models.llm import LLM, save_llm
from asterism.models.trained import TrainedModel
from asterism.models.ugt import save_ugt
from asterism.semantic_ids import Quantizer, save_semantic_ids
from asterism.training.loop import FitResult

#: Newest events kept per user, at least, for a service that starts with warm users.
HISTORY_EVENTS = 200
#: Columns kept with them where the model reads contexts.
CONTEXTS = (records.VALUE, records.SCENE, records.DEVICE)


@dataclass(frozen=True, slots=True)
class TrainedParts:
    """What the stages of a run made."""

    config: RunConfig
    config_folder: Path  # where the configuration's relative paths start
    dataset: Dataset
    dataset_fingerprint: str
    embedder: ItemEmbedder
    vectors: NDArray[np.float32]
    semantic_ids: SemanticIdTable
    quantizer: Quantizer
    model: TrainedModel
    result: FitResult
    neighbours: NeighbourHead | None  # where the final order may use it


def write_bundle(made: TrainedParts, target: Path) -> Bundle:
    """Write every part, then the manifest; an older bundle at the place is replaced whole.

    Raises `StorageError` where the disk is full or cannot be written to.
    """
    try:
        return _write_parts(made, BundleWriter(target))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{target} cannot be written ({error}); make room, then train with --resume") from error


def _write_parts(made: TrainedParts, writer: BundleWriter) -> Bundle:
    writer.part(parts.CONFIG).write_text(made.config.model_dump_json(indent=2), encoding="utf-8")
    writer.part(parts.METRICS).write_text(json.dumps(asdict(made.result), indent=2), encoding="utf-8")
    pq.write_table(made.dataset.items, writer.part(parts.ITEMS))
    kept = max(HISTORY_EVENTS, made.config.model.events_read)
    extra = CONTEXTS if made.model.layout.contexts else ()
    pq.write_table(newest_positive_events(made.dataset.interactions, kept, extra), writer.part(parts.HISTORIES))
    users = made.dataset.users
    if made.config.model.user_attributes and users is not None:
        pq.write_table(users.select([records.USER_ID, *categorical_columns(users)]), writer.part(parts.USERS))
    save_file({"vectors": made.vectors}, writer.part(parts.ITEM_VECTORS))
    if made.neighbours is not None and made.config.decoding.neighbour_weight > 0:
        made.neighbours.save(writer.part(parts.NEIGHBOURS))
    save_semantic_ids(writer.part(parts.SEMANTIC_IDS), made.semantic_ids, made.quantizer)
    made.embedder.save(writer.part(parts.EMBEDDER_ARRAYS), writer.part(parts.EMBEDDER))
    if isinstance(made.model, LLM):
        save_llm(made.model, writer.folder(parts.LANGUAGE_MODEL), writer.part(parts.MODEL))
    else:
        save_ugt(made.model, writer.part(parts.MODEL_WEIGHTS), writer.part(parts.MODEL))
    return writer.commit(facts=_facts(made))


def newest_positive_events(
    interactions: pa.Table, count: int = HISTORY_EVENTS, extra: tuple[str, ...] = ()
) -> pa.Table:
    """Each user's newest positive events, oldest first: user_id, item_id, timestamp, action, and `extra` columns.

    An extra column that the table lacks is left out.
    """
    wanted = [records.USER_ID, records.ITEM_ID, records.TIMESTAMP, records.ACTION]
    wanted += [name for name in extra if name in interactions.column_names]
    positive = pa.array([action.value for action in records.POSITIVE_ACTIONS])
    actions = interactions[records.ACTION]
    kept = interactions.select(wanted).filter(pa.compute.is_in(actions, value_set=positive))
    users, _ = codes_of(kept[records.USER_ID])
    times = kept[records.TIMESTAMP].to_numpy()
    order = np.lexsort((times, users))
    users = users[order]
    ends = np.searchsorted(users, users, side="right")
    recent = ends - np.arange(len(users)) <= count
    return take_rows(kept, order[recent])


def _facts(made: TrainedParts) -> dict[str, object]:
    return {
        "asterism": __version__,
        "config_folder": str(made.config_folder.resolve()),
        "dataset": made.config.name,
        "dataset_fingerprint": made.dataset_fingerprint,
        "seed": made.config.seed,
        "events_read": made.config.model.events_read,
        "items": len(made.semantic_ids),
        "items_hash": hash_texts(made.dataset.items[records.ITEM_ID].to_pylist()),
        "levels": made.semantic_ids.levels,
        "codebook_sizes": list(made.semantic_ids.codebook_sizes),
        "semantic_ids_hash": hash_array(made.semantic_ids.codes),
    }
