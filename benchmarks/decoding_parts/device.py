"""A device's own queue: recorded graphs of the whole search, and the same operators told one by one.

Two shapes: `reference` (width 128, 4 blocks, 50 events, beam 20, three levels of 256 codes and one against collisions)
and `wide` (width 1024, 8 blocks, beam 200, the same codes), the nearest to that of NVIDIA's published figures. Every
history is read anew, and a call is all of it: padding on the host, the copy to the device, encoder and search, the copy
back.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from asterism.config import DecodingConfig, ModelConfig
from asterism.core.progress import track
from asterism.data.sequences import Sequences
from asterism.decoding.captured.generator import CapturedGenerator
from asterism.decoding.captured.recording import CudaGraphs, Directly, Recorder
from asterism.models.ugt import UGT, ItemFeatures, UGTShape
from reference_shape import MODEL
from trie import make_table

COUNT: Final = 10


class Wanted(NamedTuple):
    """A model and its beam."""

    model: ModelConfig
    beam: int


SHAPES: Final[dict[str, Wanted]] = {
    "reference": Wanted(MODEL, 20),
    "wide": Wanted(ModelConfig(width=1024, blocks=8, heads=8, max_events=50), 200),
}
PUBLISHED: Final = {"sid_gr on an H100, 8 x 1024, 4 x 256 codes, beam 200": {"1": "21.5 ms", "16": "684 requests/s"}}


def make_model(shape: Wanted, items: int, seed: int) -> UGT:
    """Random weights, whose values cost nothing, over random paths."""
    torch.manual_seed(seed)
    table = make_table(items, np.random.default_rng(seed))
    features = ItemFeatures(torch.from_numpy(table.codes).long(), table.codebook_sizes, torch.randn(items, 64))
    return UGT(features, UGTShape(shape.model, temperature=0.1)).eval()


def make_histories(rows: int, items: int, random: np.random.Generator) -> Sequences:
    """Fifty random events a row."""
    events = MODEL.max_events
    offsets = np.arange(rows + 1) * events
    taken = random.integers(0, items, rows * events).astype(np.int32)
    return Sequences(offsets, taken, np.tile(np.arange(events) * 3600, rows), np.ones(rows * events, np.int8))


def measure(calls: dict[str, Callable[[], object]], seconds: float, rows: int) -> dict[str, dict[str, float]]:
    """Of each call, by turns, what a batch takes."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.monotonic() + seconds
    while time.monotonic() < end or min(map(len, taken.values())) < 3:
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - started)
    return {
        name: {
            "p50_ms": round(1e3 * float(np.median(all_of)), 3),
            "p99_ms": round(1e3 * float(np.quantile(all_of, 0.99)), 3),
            "requests_per_second": round(rows * len(all_of) / sum(all_of), 1),
        }
        for name, all_of in taken.items()
    }


def recorders(device: str) -> dict[str, Recorder]:
    """How batches are run."""
    if device == "cpu":
        torch.set_num_threads(1)
        return {"told": Directly("cpu")}
    return {"recorded": CudaGraphs(device), "told": Directly(device)}


def measure_device(
    device: str, batches: Mapping[str, Sequence[int]], items: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Figures of shapes and their batches, by turns; on a processor, where nothing is recorded, on one thread."""
    random, by, found = np.random.default_rng(seed), recorders(device), []
    for name, sizes in batches.items():
        shape = SHAPES[name]
        model, decoding = make_model(shape, items, seed), DecodingConfig(beam=shape.beam)
        generators = {how: CapturedGenerator(model, decoding, one, precision="bf16") for how, one in by.items()}
        for rows in track(sizes, f"device, {name}", len(sizes)):
            histories = make_histories(rows, items, random)
            calls = {how: partial(one.recommend, histories, COUNT) for how, one in generators.items()}
            for call in calls.values():
                call()
            found.append({"shape": name, "batch": rows, **measure(calls, seconds, rows)})
            print(json.dumps(found[-1]), file=sys.stderr)
    known: dict[str, Any] = {"device": "cpu, 1 thread"}
    if device != "cpu":
        known = {"device": torch.cuda.get_device_name(), "reserved_mb": torch.cuda.max_memory_reserved() >> 20}
    return {**known, "rows": found, "published": PUBLISHED}
