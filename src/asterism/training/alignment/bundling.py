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
from asterism.decoding.neighbours import NeighbourHead
from asterism.models.ugt import UGT, save_ugt
from asterism.training.alignment.loop import AlignmentResult

_NEW = (parts.MODEL_WEIGHTS, parts.MODEL, parts.CONFIG, parts.METRICS, parts.NEIGHBOURS)


def write_aligned(
    start: Bundle,
    target: Path,
    policy: UGT,
    config: RunConfig,
    neighbours: NeighbourHead | None,
    result: AlignmentResult,
) -> Bundle:
    """Write the aligned policy with everything that the start has beside it; `aligned_from` names the start's version.

    Where alignment did not improve, every part is the start's, and so is the version. Raises `StorageError` where the
    disk is full or cannot be written to.
    """
    try:
        writer = BundleWriter(target)
        for name in start.manifest.parts:
            if not result.improved or name not in _NEW:
                shutil.copyfile(start.part(name), writer.part(name))
        if result.improved:
            _write_new(writer, start, policy, config, neighbours, result)
        return writer.commit(facts=_facts(start, config, result))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{target} cannot be written ({error}); make room, then align again") from error


def _write_new(
    writer: BundleWriter,
    start: Bundle,
    policy: UGT,
    config: RunConfig,
    neighbours: NeighbourHead | None,
    result: AlignmentResult,
) -> None:
    save_ugt(policy, writer.part(parts.MODEL_WEIGHTS), writer.part(parts.MODEL))
    writer.part(parts.CONFIG).write_text(config.model_dump_json(indent=2), encoding="utf-8")
    metrics = json.loads(start.part(parts.METRICS).read_text(encoding="utf-8"))
    metrics["alignment"] = asdict(result)
    writer.part(parts.METRICS).write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    if neighbours is not None and config.decoding.neighbour_weight > 0:
        neighbours.save(writer.part(parts.NEIGHBOURS))


def _facts(start: Bundle, config: RunConfig, result: AlignmentResult) -> dict[str, Any]:
    return start.manifest.facts | {
        "aligned_from": start.version,
        "alignment_method": config.alignment.method,
        "alignment_improved": result.improved,
    }
