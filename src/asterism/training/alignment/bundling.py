"""An aligned bundle: the start's parts, with new weights and a new final order, or the start again."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from asterism.config import RunConfig
from asterism.core import parts
from asterism.core.bundle import Bundle, BundleWriter
from asterism.core.errors import StorageError
from asterism.decoding.loading import TrainedRecommender
from asterism.decoding.neighbours import NeighbourHead
from asterism.models.llm import LLM, save_llm
from asterism.models.ugt import save_ugt
from asterism.training.alignment.outcome import AlignmentResult

_NEW = (parts.MODEL_WEIGHTS, parts.LANGUAGE_MODEL, parts.MODEL, parts.CONFIG, parts.METRICS, parts.NEIGHBOURS)


def write_aligned(
    start: TrainedRecommender,
    target: Path,
    config: RunConfig,
    neighbours: NeighbourHead | None,
    result: AlignmentResult,
) -> Bundle:
    """Write the policy of `start`, aligned by now, with everything that its bundle has beside it.

    `aligned_from` names the start's version. Where alignment did not improve, every part is the start's, and so is the
    version. Raises `StorageError` where the disk is full or cannot be written to.
    """
    try:
        writer = BundleWriter(target)
        for name in start.bundle.manifest.parts:
            if not result.improved or name.split("/")[0] not in _NEW:
                _copy(start.bundle, name, writer)
        if result.improved:
            _write_new(writer, start, config, neighbours, result)
        return writer.commit(facts=_facts(start.bundle, config, result))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{target} cannot be written ({error}); make room, then align with --resume") from error


def _copy(bundle: Bundle, name: str, writer: BundleWriter) -> None:
    folder, _, file = name.rpartition("/")
    place = writer.part(file) if not folder else writer.part(folder) / file
    place.parent.mkdir(exist_ok=True)
    shutil.copyfile(bundle.part(name), place)


def _write_new(
    writer: BundleWriter,
    start: TrainedRecommender,
    config: RunConfig,
    neighbours: NeighbourHead | None,
    result: AlignmentResult,
) -> None:
    if isinstance(start.policy, LLM):
        save_llm(start.policy, writer.folder(parts.LANGUAGE_MODEL), writer.part(parts.MODEL))
    else:
        save_ugt(start.policy, writer.part(parts.MODEL_WEIGHTS), writer.part(parts.MODEL))
    writer.part(parts.CONFIG).write_text(config.model_dump_json(indent=2), encoding="utf-8")
    metrics = json.loads(start.bundle.part(parts.METRICS).read_text(encoding="utf-8"))
    metrics["alignment"] = asdict(result)
    writer.part(parts.METRICS).write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    if neighbours is not None and config.decoding.neighbour_weight > 0:
        neighbours.save(writer.part(parts.NEIGHBOURS))


def _facts(start: Bundle, config: RunConfig, result: AlignmentResult) -> dict[str, Any]:
    return start.manifest.facts | {
        "aligned_from": start.version,
        "alignment_method": config.alignment.method,
        "alignment_improved": result.improved,
        "alignment_stopped": result.stopped,
    }
