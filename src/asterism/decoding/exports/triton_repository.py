"""A Triton model repository whose one model answers a history with recommendations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import onnx

from asterism.core.errors import RequestError
from asterism.decoding.exports.agreement import Agreement
from asterism.decoding.exports.folder import new_folder, write_item_ids, write_manifest
from asterism.decoding.exports.graphs import ExportOptions
from asterism.decoding.exports.onnx_files import CHECKED_HISTORIES, facts, write_checked
from asterism.decoding.loading import TrainedRecommender

MODEL: Final = "asterism"
_TYPES: Final[dict[int, str]] = {onnx.TensorProto.INT64: "TYPE_INT64", onnx.TensorProto.FLOAT: "TYPE_FP32"}


@dataclass(frozen=True, slots=True)
class TritonOptions:
    """How the server runs the model."""

    max_batch: int = 64
    queue_delay_us: int = 1_000  # how long a request may wait for others
    instances: int = 1
    kind: str = "KIND_CPU"  # or KIND_GPU

    def check(self) -> None:
        """Raise `RequestError` on a senseless option."""
        if self.max_batch < 1 or self.instances < 1 or self.queue_delay_us < 0:
            raise RequestError(
                f"a server with batches of {self.max_batch}, {self.instances} instances and a wait of "
                f"{self.queue_delay_us} µs cannot run; the first two are at least 1, the last at least 0"
            )

    @property
    def preferred_batches(self) -> tuple[int, ...]:
        """Powers of four up to the largest batch."""
        sizes = [4**power for power in range(1, 12)]
        return tuple(size for size in sizes if size <= self.max_batch) or (self.max_batch,)


def export_triton(
    trained: TrainedRecommender,
    target: Path,
    options: ExportOptions,
    serving: TritonOptions,
    histories: int = CHECKED_HISTORIES,
) -> list[Agreement]:
    """Write `asterism/config.pbtxt` and `asterism/1/model.onnx`, the graph `recommend`, checked as `export_onnx` does.

    Raises `RequestError` on a senseless option, else what `export_onnx` raises.
    """
    serving.check()
    with new_folder(target) as folder:
        version = folder / MODEL / "1"
        version.mkdir(parents=True)
        found = write_checked(trained, version, options, ["recommend"], histories, lambda _: "model.onnx")
        model = onnx.load(version / "model.onnx")
        (folder / MODEL / "config.pbtxt").write_text(config_text(model, serving), encoding="utf-8")
        write_item_ids(trained, folder / MODEL)
        (folder / "README.md").write_text(_readme(model, options), encoding="utf-8")
        kept = {"kind": "triton", "serving": asdict(serving), **facts(options, found, histories)}
        write_manifest(trained, folder, kept)
    return found


def config_text(model: onnx.ModelProto, serving: TritonOptions) -> str:
    """The model configuration (protobuf text) that fits a graph's inputs and outputs."""
    inputs = ",\n".join(_tensor(one) for one in model.graph.input)
    outputs = ",\n".join(_tensor(one) for one in model.graph.output)
    sizes = ", ".join(map(str, serving.preferred_batches))
    return f"""name: "{MODEL}"
platform: "onnxruntime_onnx"
max_batch_size: {serving.max_batch}
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{
  preferred_batch_size: [ {sizes} ]
  max_queue_delay_microseconds: {serving.queue_delay_us}
}}
instance_group [
  {{
    count: {serving.instances}
    kind: {serving.kind}
  }}
]
"""


def _tensor(value: onnx.ValueInfoProto) -> str:
    """One input or output; the batch is left out, and a row of numbers has one place that the graph does not see."""
    kind = value.type.tensor_type
    sizes = [one.dim_value if one.HasField("dim_value") else -1 for one in kind.shape.dim[1:]]
    shape = f"dims: [ {', '.join(map(str, sizes))} ]" if sizes else "dims: [ 1 ]\n    reshape { shape: [ ] }"
    return f"""  {{
    name: "{value.name}"
    data_type: {_TYPES[kind.elem_type]}
    {shape}
  }}"""


def _readme(model: onnx.ModelProto, options: ExportOptions) -> str:
    known = {one.key: one.value for one in model.metadata_props}
    seen = "not given again" if options.exclude_history else "given again where they score high"
    return f"""# Asterism on Triton

    docker run --rm -p 8000:8000 -p 8001:8001 -v "$PWD:/models:ro" "$TRITON" tritonserver --model-repository=/models

`TRITON` is NVIDIA's image `tritonserver` with its registry and a tag `<yy.mm>-py3`; its ONNX Runtime must know opset 18
(1.14 or later). `GET localhost:8000/v2/models/{MODEL}` then tells the inputs.

* Bundle {known["bundle"]}, {known["items"]} items, the {options.k} best in mode `{options.mode}`.
* Items are indices into `{MODEL}/item_ids.json`.
* A history is its {known["max_events"]} newest events at most, the newest last; shorter ones are padded in
  front, `items` with -1.
* Items of the history's inputs are {seen}; what else must not come, older items of the user among it, goes into
  `excluded`: at least one column, -1 for none.
* Requests are batched together when their shapes are equal: pad all to one width.
* What each input means stands in the metadata of `{MODEL}/1/model.onnx`, under `inputs`.
"""
