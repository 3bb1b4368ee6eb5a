"""A bundle that was trained, as graphs that answer its own users the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime

from asterism.core.bundle import Bundle
from asterism.decoding.exports.graphs import ExportOptions
from asterism.decoding.exports.onnx_files import export_onnx
from asterism.decoding.exports.samples import sample_histories
from asterism.decoding.graph.columns import columns_of, seen_items
from asterism.decoding.loading import load_recommender


def test_the_graph_recommends_by_item_id_what_the_generator_does(bundle: Path, tmp_path: Path) -> None:
    trained = load_recommender(Bundle.open(bundle))
    export_onnx(trained, tmp_path / "out", ExportOptions())
    rows = sample_histories(trained, 60)
    feeds = columns_of(rows, trained.config.model) | {"excluded": seen_items(rows)}
    found, scores = onnxruntime.InferenceSession(tmp_path / "out" / "recommend.onnx").run(None, feeds)
    ids = json.loads((tmp_path / "out" / "item_ids.json").read_text(encoding="utf-8"))
    wanted = trained.generator.recommend(rows, 10, exclude_history=True)
    assert [[ids[item] for item in row] for row in found.tolist()] == [
        [trained.item_ids.id_of(item) for item in row] for row in wanted.items.tolist()
    ]
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-4, atol=1e-3)
