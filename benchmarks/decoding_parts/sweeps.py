"""What a request costs as one thing grows; each point in a process of its own, whose memory is then its alone."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from asterism.core.memory import keep_freed_memory
from asterism.core.progress import track
from asterism.core.semantic_id import SemanticIdTable
from asterism.decoding.beam import beam_search
from asterism.decoding.trie import Trie
from asterism.models.policy import HistoryBatch
from asterism.models.ugt.decoder import CodeDecoder
from asterism.models.ugt.inference import InferenceUGT
from asterism.models.ugt.inference.code_scores import InferenceDecoder
from decoding_parts.forms import full_requests
from decoding_parts.rounds import Work, alone
from decoding_parts.world import SIZES, TEMPERATURE, Shape, World, distinct_codes

WINDOWS = 8
LEAST_SECONDS = 0.1
ROUNDS = 5
#: Pairs of tokens that a batch may have, for memory's sake: points beyond are left out.
MOST_PAIRS = 10_000**2


class Point(NamedTuple):
    """A place of a sweep."""

    sweep: str
    value: int
    batch: int
    shape: Shape
    rounds: int = ROUNDS


class CatalogueDecoder:
    """The code decoder alone as a policy: a catalogue's items have no vectors of their own."""

    def __init__(self, decoder: CodeDecoder) -> None:
        self._decoder = InferenceDecoder(decoder, "bf16")
        self.codebook_sizes, self.max_events = SIZES, 0

    def next_code_log_probs(self, state: torch.Tensor, prefixes: torch.Tensor) -> torch.Tensor:
        """See `Policy.next_code_log_probs`."""
        return self._decoder.log_probs(state, prefixes)

    def encode(self, histories: HistoryBatch) -> torch.Tensor:
        """There is nobody to encode."""
        raise NotImplementedError

    item_scores = encode


def points(values: dict[str, Sequence[int]], shape: Shape) -> list[Point]:
    """All places of all sweeps; `values` by sweep."""
    found = [Point("batch", one, one, shape) for one in values["batch"]]
    for batch in (1, 32):
        found += [Point("catalogue", one, batch, shape._replace(items=one)) for one in values["catalogue"]]
        found += [Point("beam", one, batch, shape._replace(beam=one)) for one in values["beam"]]
        for one in values["history"]:
            if batch * one**2 <= MOST_PAIRS:
                found.append(Point("history", one, batch, shape._replace(events=one)))
            if one >= shape.newest + WINDOWS:
                windows = shape._replace(events=one, summaries=WINDOWS)
                found.append(Point("history in windows", one, batch, windows))
    return found


def measure_sweeps(values: dict[str, Sequence[int]], shape: Shape, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Microseconds a request and megabytes at every point."""
    found = []
    for point in track(points(values, shape), "sweeps"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(measure_point, point._replace(rounds=rounds)).result())
        print(found[-1], file=sys.stderr)
    return found


@torch.inference_mode()
def measure_point(point: Point) -> dict[str, Any]:
    """One point, in this process. `held_mb` is what the tables and weights took, `working_mb` what requests did."""
    torch.set_num_threads(1)
    torch.zeros(8, 8, dtype=torch.bfloat16) @ torch.zeros(8, 8, dtype=torch.bfloat16)
    before = _resident("VmRSS")
    make: Callable[[Point], tuple[Work, dict[str, float]]] = _catalogue if point.sweep == "catalogue" else _requests
    work, tables = make(point)
    building, held = _resident("VmHWM"), _resident("VmRSS")
    keep_freed_memory()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark begins anew
    work()
    figures = alone(work, point.batch, point.rounds, LEAST_SECONDS)
    return {
        **{"sweep": point.sweep, "value": point.value, "batch": point.batch},
        **figures,
        **tables,
        "held_mb": round(held - before, 1),
        "working_mb": round(_resident("VmHWM") - held, 1),
        "building_mb": round(building - before, 1),
    }


def _requests(point: Point) -> tuple[Work, dict[str, float]]:
    world = World(point.shape)
    return full_requests(world, InferenceUGT(world.model, "bf16"), point.batch), {}


def _catalogue(point: Point) -> tuple[Work, dict[str, float]]:
    shape = point.shape
    torch.manual_seed(shape.seed)
    codes = distinct_codes(shape.items, np.random.default_rng(shape.seed))
    trie = Trie.from_table(SemanticIdTable(codes, SIZES))
    policy = CatalogueDecoder(CodeDecoder(shape.width, torch.from_numpy(codes), SIZES, None, TEMPERATURE).eval())
    states, view = torch.randn(point.batch, shape.width), trie.snapshot()
    return lambda: beam_search(policy, states, view, shape.beam, shape.beam), {"trie_mb": round(trie.bytes / 1e6, 1)}


def _resident(field: str) -> float:
    """Megabytes of this process, by the kernel's count."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"the kernel tells no {field}")
