"""`asterism export`: a bundle as ONNX graphs, TensorRT plans or a Triton model repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from asterism.decoding.exports.agreement import Agreement
    from asterism.decoding.exports.graphs import ExportOptions
    from asterism.decoding.loading import TrainedRecommender

app = typer.Typer(name="export", help="Bundles for other runtimes.", no_args_is_help=True)

BundlePath = Annotated[Path, typer.Option(help="The bundle that `asterism train` wrote.")]
Out = Annotated[Path, typer.Option("--out", "--output", help="The folder to write; an earlier export is replaced.")]
Count = Annotated[int, typer.Option("--k", min=1, help="Items in an answer of the graph `recommend`.")]
Mode = Annotated[
    Literal["rescored", "generate", "rank"],
    typer.Option(help="Beam and item head, the beam alone, or the item head over all items."),
]
Beam = Annotated[int | None, typer.Option(min=1, help="Instead of the bundle's beam.")]
History = Annotated[bool, typer.Option("--exclude-history/--keep-history", help="Leave out the history's items.")]
Checked = Annotated[int, typer.Option("--check", min=1, help="Histories on which graphs and model are compared.")]
MaxBatch = Annotated[int, typer.Option(min=1, help="The largest batch.")]


@app.command("onnx")
def onnx_command(
    bundle: BundlePath,
    out: Out,
    k: Count = 10,
    mode: Mode = "rescored",
    beam: Beam = None,
    exclude_history: History = True,
    check: Checked = 200,
) -> None:
    """Write a bundle's graphs as ONNX files, and compare each with the model."""
    with _needed_packages():
        from asterism.decoding.exports.onnx_files import export_onnx
    _tell(export_onnx(_loaded(bundle), out, _options(k, mode, beam, exclude_history), check), out)


@app.command("tensorrt")
def tensorrt_command(
    bundle: BundlePath,
    out: Out,
    k: Count = 10,
    mode: Mode = "rescored",
    beam: Beam = None,
    exclude_history: History = True,
    check: Checked = 200,
    max_batch: MaxBatch = 64,
    precision: Annotated[Literal["fp32", "fp16"], typer.Option(help="What TensorRT may calculate in.")] = "fp32",
) -> None:
    """Build TensorRT plans of a bundle's graphs, on the kind of GPU that will run them."""
    with _needed_packages():
        from asterism.decoding.exports.tensorrt_plan import PlanOptions, export_tensorrt
    plans = PlanOptions(max_batch, precision)
    _tell(export_tensorrt(_loaded(bundle), out, _options(k, mode, beam, exclude_history), plans, check), out)


@app.command("triton")
def triton_command(
    bundle: BundlePath,
    out: Out,
    k: Count = 10,
    mode: Mode = "rescored",
    beam: Beam = None,
    exclude_history: History = True,
    check: Checked = 200,
    max_batch: MaxBatch = 64,
    queue_delay_us: Annotated[int, typer.Option(min=0, help="Microseconds a request may wait for others.")] = 1_000,
    instances: Annotated[int, typer.Option(min=1, help="Copies of the model that run side by side.")] = 1,
    gpu: Annotated[bool, typer.Option("--gpu/--cpu", help="Where the server runs the model.")] = False,
) -> None:
    """Write a Triton model repository that answers a history with recommendations in one call."""
    with _needed_packages():
        from asterism.decoding.exports.triton_repository import TritonOptions, export_triton
    serving = TritonOptions(max_batch, queue_delay_us, instances, "KIND_GPU" if gpu else "KIND_CPU")
    _tell(export_triton(_loaded(bundle), out, _options(k, mode, beam, exclude_history), serving, check), out)


def _loaded(bundle: Path) -> TrainedRecommender:
    from asterism.core.bundle import Bundle
    from asterism.decoding.loading import load_recommender

    return load_recommender(Bundle.open(bundle))


def _options(k: int, mode: Literal["rescored", "generate", "rank"], beam: int | None, exclude: bool) -> ExportOptions:
    from asterism.decoding.exports.graphs import ExportOptions

    return ExportOptions(k, mode, beam, exclude)


@contextmanager
def _needed_packages() -> Iterator[None]:
    from asterism.core.errors import MissingDependencyError

    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(f"{error.name} is not installed; pip install 'asterism[export]'") from error


def _tell(found: list[Agreement], out: Path) -> None:
    table = Table("graph", "largest difference", "same items")
    for one in found:
        overlap = "" if one.overlap is None else f"{one.overlap:.2%}"
        table.add_row(one.graph, f"{one.largest_difference:.1e}", overlap)
    Console().print(table)
    print(f"{out} agrees with the model")
