"""TensorRT: a plan where there is a GPU, one sentence where there is none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Literal

import pytest
import torch

from asterism.core.errors import MissingDependencyError, RequestError
from asterism.decoding.exports.graphs import ExportOptions, graphs_of
from asterism.decoding.exports.tensorrt_plan import PlanOptions, export_tensorrt, profile_shapes
from asterism.decoding.loading import TrainedRecommender

HAS_TENSORRT = importlib.util.find_spec("tensorrt") is not None
HAS_ALL = torch.cuda.is_available() and HAS_TENSORRT


@pytest.mark.skipif(HAS_ALL, reason="nothing is missing here")
def test_what_is_missing_is_one_sentence(trained: TrainedRecommender, tmp_path: Path) -> None:
    with pytest.raises(
        MissingDependencyError, match=r"a TensorRT plan needs .*; run the command where they are"
    ) as told:
        export_tensorrt(trained, tmp_path / "plans", ExportOptions(), PlanOptions())
    assert ("CUDA" in str(told.value)) == (not torch.cuda.is_available())
    assert ("pip install 'tensorrt>=10'" in str(told.value)) == (not HAS_TENSORRT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not HAS_ALL, reason="needs a CUDA GPU and the package tensorrt")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_plans_agree_with_the_model(
    precision: Literal["fp32", "fp16"], trained: TrainedRecommender, tmp_path: Path
) -> None:
    found = export_tensorrt(trained, tmp_path / "plans", ExportOptions(k=5), PlanOptions(8, precision))
    assert [one.graph for one in found] == ["encoder", "recommend"]
    assert (tmp_path / "plans" / "recommend.plan").stat().st_size > 0
    assert json.loads((tmp_path / "plans" / "export.json").read_text(encoding="utf-8"))["kind"] == "tensorrt"


def test_a_profile_spans_every_input(trained: TrainedRecommender) -> None:
    longest = {"events": 5, "older_events": 15, "attributes": 2, "excluded": 100}
    model = graphs_of(trained, ExportOptions())["recommend"]()
    shapes = profile_shapes(model, longest, max_batch=64)
    assert list(shapes) == [one.name for one in model.graph.input]
    assert shapes["items"] == [(1, 1), (32, 5), (64, 5)]
    assert shapes["older_items"] == [(1, 1), (32, 15), (64, 15)]
    assert shapes["attributes"] == [(1, 2), (32, 2), (64, 2)]
    assert shapes["asked_timestamps"] == [(1,), (32,), (64,)]
    assert shapes["excluded"] == [(1, 1), (32, 64), (64, 100)]


def test_senseless_options(trained: TrainedRecommender, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be built"):
        export_tensorrt(trained, tmp_path / "plans", ExportOptions(), PlanOptions(max_batch=0))
