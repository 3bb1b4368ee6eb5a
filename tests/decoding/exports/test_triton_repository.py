"""The model repository: its configuration is valid, and fits the graph beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from asterism.core.errors import RequestError
from asterism.decoding.exports.graphs import ExportOptions
from asterism.decoding.exports.samples import sample_histories
from asterism.decoding.exports.triton_repository import TritonOptions, export_triton
from asterism.decoding.graph.columns import columns_of
from asterism.decoding.loading import TrainedRecommender
from decoding.graph.running import run

TOKEN = re.compile(r'\s*(?:("[^"\n]*")|([A-Za-z_][A-Za-z0-9_]*)|(-?\d+)|([\[\]{}:,]))')
TYPES = {"TYPE_INT64": np.int64, "TYPE_FP32": np.float32}
#: What the fields of a message may hold, of those that we write.
FIELDS = {
    "": {
        "name": str,
        "platform": str,
        "max_batch_size": int,
        "input": list,
        "output": list,
        "dynamic_batching": dict,
        "instance_group": list,
    },
    "input": {"name": str, "data_type": "enum", "dims": list, "reshape": dict},
    "output": {"name": str, "data_type": "enum", "dims": list},
    "reshape": {"shape": list},
    "dynamic_batching": {"preferred_batch_size": list, "max_queue_delay_microseconds": int},
    "instance_group": {"count": int, "kind": "enum"},
}


class Reader:
    """Protobuf's text format, as far as a model configuration of ours needs it; anything else is an error."""

    def __init__(self, text: str) -> None:
        self.tokens = []
        place = 0
        while text[place:].strip():
            found = TOKEN.match(text, place)
            assert found is not None, f"no token at {text[place : place + 20]!r}"
            self.tokens.append(found.group(found.lastindex or 0))
            place = found.end()

    def next(self, *wanted: str) -> str:
        token = self.tokens.pop(0)
        assert not wanted or token in wanted, f"{token!r} instead of {wanted}"
        return token

    def message(self, kind: str, end: str | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.tokens and self.tokens[0] != end:
            name = self.next()
            assert name in FIELDS[kind], f"{kind or 'the model'} has no field {name!r}"
            assert name not in found, f"{name} twice"
            if self.tokens[0] == ":":
                self.next(":")
            found[name] = self.value(name, FIELDS[kind][name])
        return found

    def value(self, name: str, kind: Any) -> Any:
        if kind is list:
            return self.list(name)
        token = self.next()
        if kind is dict:
            assert token == "{"
            found = self.message(name, "}")
            self.next("}")
            return found
        if kind is str:
            assert token.startswith('"')
            return token.strip('"')
        if kind == "enum":
            assert re.fullmatch(r"(TYPE|KIND)_[A-Z0-9]+", token)
            return token
        return int(token)

    def list(self, name: str) -> list[Any]:
        self.next("[")
        found: list[Any] = []
        while self.tokens[0] != "]":
            if found:
                self.next(",")
            found.append(self.value(name, dict if self.tokens[0] == "{" else int))
        self.next("]")
        return found


def read(repository: Path) -> dict[str, Any]:
    return Reader((repository / "asterism" / "config.pbtxt").read_text(encoding="utf-8")).message("", None)


@pytest.fixture(scope="module")
def repository(trained: TrainedRecommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "triton"
    serving = TritonOptions(max_batch=20, queue_delay_us=500, instances=2)
    (found,) = export_triton(trained, folder, ExportOptions(k=6), serving)
    assert found.overlap == 1.0
    return folder


def test_the_reader_is_strict() -> None:
    for text in ('nam: "x"', 'name: "x" name: "y"', "input [ { dims: [ 1 2 ] } ]", "max_batch_size: x", "input [ ; ]"):
        with pytest.raises((AssertionError, ValueError)):
            Reader(text).message("", None)


def test_inputs_and_outputs_are_the_graphs(repository: Path) -> None:
    config, model = read(repository), onnx.load(repository / "asterism" / "1" / "model.onnx")
    for ours, theirs in ((config["input"], model.graph.input), (config["output"], model.graph.output)):
        assert [one["name"] for one in ours] == [one.name for one in theirs]
        for one, value in zip(ours, theirs, strict=True):
            kind = value.type.tensor_type
            assert TYPES[one["data_type"]] == onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            assert kind.shape.dim[0].dim_param == "batch", "Triton takes the first axis for the batch"
            served = one["reshape"]["shape"] if "reshape" in one else one["dims"]
            assert served == [axis.dim_value if axis.dim_value else -1 for axis in kind.shape.dim[1:]]
            assert one["dims"], "a shape of nothing is none to Triton"
    assert [one["name"] for one in config["input"] if "reshape" in one] == [
        "asked_timestamps",
        "asked_scenes",
        "asked_devices",
    ]


def test_batching_and_instances(repository: Path) -> None:
    config = read(repository)
    assert (config["name"], config["platform"], config["max_batch_size"]) == ("asterism", "onnxruntime_onnx", 20)
    assert config["dynamic_batching"] == {"preferred_batch_size": [4, 16], "max_queue_delay_microseconds": 500}
    assert config["instance_group"] == [{"count": 2, "kind": "KIND_CPU"}]
    assert TritonOptions(max_batch=2).preferred_batches == (2,)


def test_a_request_in_the_configurations_shapes_is_answered_as_by_the_generator(
    repository: Path, trained: TrainedRecommender
) -> None:
    config, rows = read(repository), sample_histories(trained, 9)
    known = columns_of(rows, trained.config.model) | {"excluded": np.full((len(rows), 1), -1)}
    feeds = {}
    for one in config["input"]:
        request = known[one["name"]].reshape(len(rows), *one["dims"]).astype(TYPES[one["data_type"]])  # as it is sent
        feeds[one["name"]] = request.reshape(len(rows), *one["reshape"]["shape"]) if "reshape" in one else request
    items, _ = run(onnx.load(repository / "asterism" / "1" / "model.onnx"), feeds)
    np.testing.assert_array_equal(items, trained.generator.recommend(rows, 6, exclude_history=True).items)


def test_the_repository_holds_one_model_and_says_how_to_serve_it(repository: Path) -> None:
    assert [one.name for one in repository.iterdir() if one.is_dir()] == ["asterism"]
    assert len(json.loads((repository / "asterism" / "item_ids.json").read_text(encoding="utf-8"))) == 60
    told = (repository / "README.md").read_text(encoding="utf-8")
    assert "docker run" in told
    assert "--model-repository=/models" in told


@pytest.mark.parametrize("options", [{"max_batch": 0}, {"instances": 0}, {"queue_delay_us": -1}])
def test_senseless_options(options: dict[str, int], trained: TrainedRecommender, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot run"):
        export_triton(trained, tmp_path / "out", ExportOptions(), TritonOptions(**options))  # type: ignore[arg-type]
