"""All graphs of a bundle as ONNX files, none of which is left where it disagrees with the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import onnx

from asterism.core.progress import track
from asterism.decoding.exports.agreement import Agreement, agreements
from asterism.decoding.exports.folder import new_folder, write_item_ids, write_manifest
from asterism.decoding.exports.graphs import ExportOptions, graphs_of
from asterism.decoding.exports.onnx_graph import OPSET
from asterism.decoding.exports.samples import sample_histories
from asterism.decoding.loading import TrainedRecommender

#: Histories that an export is checked on.
CHECKED_HISTORIES = 200


def export_onnx(
    trained: TrainedRecommender, target: Path, options: ExportOptions, histories: int = CHECKED_HISTORIES
) -> list[Agreement]:
    """Write `<graph>.onnx` for every graph, the item ids and a manifest into a folder; returns how close they come.

    Raises `ModelError`, and leaves the target as it was, if a graph disagrees with the model on a sample of the
    bundle's histories; `StorageError` where something else is in the way.
    """
    with new_folder(target) as folder:
        found = write_checked(trained, folder, options, list(graphs_of(trained, options)), histories)
        write_item_ids(trained, folder)
        write_manifest(trained, folder, {"kind": "onnx", "opset": OPSET, **facts(options, found, histories)})
    return found


def write_checked(
    trained: TrainedRecommender,
    folder: Path,
    options: ExportOptions,
    names: list[str],
    histories: int,
    name_file: Callable[[str], str] = "{}.onnx".format,
) -> list[Agreement]:
    """Write some of the graphs to a folder and check them; raises `ModelError` where one disagrees."""
    writers = graphs_of(trained, options)
    files = {name: folder / name_file(name) for name in names}
    for name in track(names, "writing graphs"):
        onnx.save_model(writers[name](), files[name])
    found = agreements(files, trained, options, sample_histories(trained, histories))
    for one in found:
        one.check()
    return found


def facts(options: ExportOptions, found: list[Agreement], histories: int) -> dict[str, object]:
    """What a manifest says of options and checks."""
    return {"options": asdict(options), "checked_histories": histories, "agreement": [asdict(one) for one in found]}
