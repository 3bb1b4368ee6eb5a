"""TensorRT plans of the graphs a server asks most, built on the GPU that will run them."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import onnx
import torch

from asterism.core.errors import MissingDependencyError, ModelError, RequestError
from asterism.core.progress import track
from asterism.decoding.exports.agreement import LEAST_OVERLAP, ROWS_AT_ONCE, TOLERANCE, Agreement, agreements
from asterism.decoding.exports.folder import new_folder, write_item_ids, write_manifest
from asterism.decoding.exports.graphs import ExportOptions, decoding_of
from asterism.decoding.exports.onnx_files import CHECKED_HISTORIES, facts, write_checked
from asterism.decoding.exports.plan_session import PlanSession
from asterism.decoding.exports.samples import sample_histories
from asterism.decoding.graph.ports import BATCH
from asterism.decoding.loading import TrainedRecommender

#: The graphs that become plans; the others are scalar products, for which ONNX Runtime is enough.
PLANS: Final = ("encoder", "recommend")
#: TensorRT's TopK takes no more than this.
LARGEST_TOP_K: Final = 3840
#: By precision the largest difference and the least overlap that a plan may have.
_LIMITS: Final = {"fp32": (TOLERANCE, LEAST_OVERLAP), "fp16": (0.1, 0.95)}
_OLDEST_VERSION = 10  # with 64-bit integers throughout
_USUAL_EXCLUDED = 1024


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a plan is built for."""

    max_batch: int = 64
    precision: Literal["fp32", "fp16"] = "fp32"
    workspace_mb: int = 1024

    def check(self) -> None:
        """Raise `RequestError` on a senseless option."""
        if self.max_batch < 1 or self.workspace_mb < 1:
            raise RequestError(
                f"a plan for batches of {self.max_batch} in {self.workspace_mb} MB cannot be built; "
                "give at least 1 of each"
            )


def export_tensorrt(
    trained: TrainedRecommender,
    target: Path,
    options: ExportOptions,
    plans: PlanOptions,
    histories: int = CHECKED_HISTORIES,
) -> list[Agreement]:
    """Write the checked ONNX files of `PLANS` and a `<graph>.plan` beside each, checked on the GPU.

    Raises `MissingDependencyError` where CUDA or TensorRT is missing, `ModelError` where TensorRT refuses a graph or
    a plan disagrees with the model.
    """
    plans.check()
    trt = _tensorrt()
    beam = decoding_of(trained, options).decoding.beam
    if max(beam, options.k) > LARGEST_TOP_K:
        raise RequestError(
            f"a beam of {max(beam, options.k)} is more than the {LARGEST_TOP_K} that TensorRT's TopK takes; "
            "give a smaller --beam"
        )
    with new_folder(target) as folder:
        write_checked(trained, folder, options, list(PLANS), histories)
        files = {name: folder / f"{name}.plan" for name in PLANS}
        for name, file in track(files.items(), "building plans", len(files)):
            file.write_bytes(_build(trt, folder / f"{name}.onnx", _longest(trained), plans))
        found = _checked(files, trained, options, plans, histories)
        write_item_ids(trained, folder)
        kept = {"kind": "tensorrt", "tensorrt": trt.__version__, "gpu": torch.cuda.get_device_name()}
        write_manifest(trained, folder, {**kept, "plans": asdict(plans), **facts(options, found, histories)})
    return found


def _checked(
    files: dict[str, Path], trained: TrainedRecommender, options: ExportOptions, plans: PlanOptions, histories: int
) -> list[Agreement]:
    rows = min(ROWS_AT_ONCE, plans.max_batch)
    sample = sample_histories(trained, histories)
    found = agreements(files, trained, options, sample, opened=PlanSession, rows_at_once=rows)
    for one in found:
        one.check(*_LIMITS[plans.precision])
    return found


def _tensorrt() -> Any:
    """The package; raises `MissingDependencyError` in one sentence that names all that is missing."""
    missing = []
    if not torch.cuda.is_available():
        missing.append("a CUDA GPU that torch can use (a plan is built on the kind of GPU that runs it)")
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError:
        missing.append(f"the package tensorrt (pip install 'tensorrt>={_OLDEST_VERSION}')")
    else:
        if int(trt.__version__.split(".")[0]) < _OLDEST_VERSION:
            missing.append(f"tensorrt {_OLDEST_VERSION} or later instead of {trt.__version__}")
    if missing:
        raise MissingDependencyError(f"a TensorRT plan needs {' and '.join(missing)}; run the command where they are")
    return trt


def _longest(trained: TrainedRecommender) -> dict[str, int]:
    """The longest that each axis of an input may be, the batch left out."""
    config = trained.ugt.shape.model
    attributes = 1 if trained.attributes is None else trained.attributes.codes.shape[1]
    return {
        "events": config.max_events,
        "older_events": config.max_history - config.max_events,
        "attributes": attributes,
        "excluded": max(_USUAL_EXCLUDED, config.events_read),
    }


def profile_shapes(model: onnx.ModelProto, longest: dict[str, int], max_batch: int) -> dict[str, list[tuple[int, ...]]]:
    """Of each input the shapes that a plan is allowed, tuned for, and at most given."""
    shapes = {}
    for one in model.graph.input:
        axes = [axis.dim_param for axis in one.type.tensor_type.shape.dim]
        most = [max_batch if axis == BATCH else longest[axis] for axis in axes]
        least = [longest[axis] if axis == "attributes" else 1 for axis in axes]
        usual = [min(size, 32 if axis == BATCH else 64) for axis, size in zip(axes, most, strict=True)]
        shapes[one.name] = [tuple(least), tuple(usual), tuple(most)]
    return shapes


def _build(trt: Any, file: Path, longest: dict[str, int], plans: PlanOptions) -> bytes:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(file)):
        told = "; ".join(parser.get_error(place).desc() for place in range(parser.num_errors))
        raise ModelError(f"TensorRT {trt.__version__} cannot read the graph {file.stem!r}: {told}; use the ONNX file")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, plans.workspace_mb << 20)
    config.clear_flag(trt.BuilderFlag.TF32)  # its products round to ten bits, and fp32 means fp32 here
    if plans.precision == "fp16":
        config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    for name, shapes in profile_shapes(onnx.load(file), longest, plans.max_batch).items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError(f"TensorRT {trt.__version__} built no plan of the graph {file.stem!r}; its log says why")
    return bytes(plan)
