"""A graph held against the model that it was written from, on the same histories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.core.errors import ModelError
from asterism.core.progress import track
from asterism.data.sequences import Sequences
from asterism.decoding.exports.graphs import ExportOptions, decoding_of
from asterism.decoding.generator import Generator
from asterism.decoding.graph.columns import Feeds, columns_of, seen_items
from asterism.decoding.loading import TrainedRecommender
from asterism.models.policy import HistoryBatch, read_histories

#: The largest difference of a graph in fp32, of any number: this much, or this share of the number.
TOLERANCE: Final = 1e-3
#: The least share of the model's items that a graph must recommend too; rounding may turn two that all but tie.
LEAST_OVERLAP: Final = 0.99
#: Rows of a call.
ROWS_AT_ONCE: Final = 32
_BEAMS = 8
_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Agreement:
    """How close a graph comes to its model."""

    graph: str
    largest_difference: float  # of any number, or of scores where both recommend the same item
    relative_difference: float  # the same, over the number where that is above one
    overlap: float | None = None  # share of recommended items that are the model's; None for other graphs

    def check(self, tolerance: float = TOLERANCE, least_overlap: float = LEAST_OVERLAP) -> None:
        """Raise `ModelError` unless the graph is close enough."""
        if not self.relative_difference <= tolerance:
            raise ModelError(
                f"the graph {self.graph!r} differs from the model by {self.largest_difference:.2g}, more than "
                f"{tolerance:g}; nothing was left on disk: report it with the bundle's configuration"
            )
        if self.overlap is not None and self.overlap < least_overlap:
            raise ModelError(
                f"the graph {self.graph!r} recommends {self.overlap:.1%} of the model's items, less than "
                f"{least_overlap:.0%}; nothing was left on disk"
            )


class Session(Protocol):
    """Something that runs a graph: ONNX Runtime's, or a plan's."""

    def run(self, outputs: list[str], feeds: Feeds) -> list[NDArray[Any]]:
        """The named outputs, in their order."""
        ...


def agreements(
    files: Mapping[str, Path],
    trained: TrainedRecommender,
    options: ExportOptions,
    histories: Sequences,
    *,
    opened: Callable[[Path], Session] | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[Agreement]:
    """Run each graph, `name` → file, and the model on the same histories; `opened` by ONNX Runtime unless told."""
    starts = range(0, len(histories), rows_at_once)
    parts = [histories.take(np.arange(start, min(start + rows_at_once, len(histories)))) for start in starts]
    comparison = _Comparison(trained, options, opened or session)
    return [comparison.of(name, file, parts) for name, file in track(files.items(), "checking graphs", len(files))]


def session(file: Path) -> Session:
    """A graph, ready to run on the CPU with as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    made: Session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return made


class _Comparison:
    def __init__(self, trained: TrainedRecommender, options: ExportOptions, opened: Callable[[Path], Session]) -> None:
        self._opened = opened
        self._policy, self._config = trained.policy, trained.config.model
        self._options = options
        search = decoding_of(trained, options)
        self._generator = Generator(trained.policy, trained.semantic_ids, search.decoding, heads=search.heads)
        self._codes = torch.from_numpy(trained.semantic_ids.codes).long()
        self._random = torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def of(self, name: str, file: Path, parts: Sequence[Sequences]) -> Agreement:
        run = self._opened(file)
        pairs = [self._both(name, run, part) for part in parts]
        if name == "recommend":
            return _of_recommendations(name, pairs)
        gaps = [_gap(found[0], wanted[0]) for found, wanted in pairs]
        return Agreement(name, *_largest(gaps))

    def _both(self, name: str, run: Session, part: Sequences) -> tuple[list[Any], list[Any]]:
        """What the graph and the model answer."""
        if name == "recommend":
            excluded = seen_items(part) if self._options.exclude_history else np.full((len(part), 1), -1)
            feeds = columns_of(part, self._config) | {"excluded": excluded}
            return run.run(["recommended", "scores"], feeds), self._recommended(part)
        batch = read_histories(self._policy, part)
        if name == "encoder":
            return run.run(["state"], columns_of(part, self._config)), [self._policy.encode(batch).numpy()]
        feeds, wanted = self._step(name, batch)
        return run.run(["log_probs" if name.startswith("codes_") else "scores"], feeds), [wanted]

    def _recommended(self, part: Sequences) -> list[Any]:
        options = self._options
        found = self._generator.recommend(
            part, options.k, exclude_history=options.exclude_history, code_log_probs=False, mode=options.mode
        )
        return [found.items, found.scores]

    def _step(self, name: str, batch: HistoryBatch) -> tuple[Feeds, NDArray[np.float32]]:
        """The inputs of a graph that reads states, and what the model says."""
        state = self._policy.encode(batch)
        feeds: Feeds = {"state": state.numpy()}
        if name == "catalogue":
            return feeds, self._policy.item_scores(state).numpy()
        if name == "items":
            items = torch.randint(len(self._codes), (len(state), _CANDIDATES), generator=self._random)
            return feeds | {"candidates": items.numpy()}, self._policy.item_scores(state, items).numpy()
        prefixes = self._prefixes(len(state), int(name.removeprefix("codes_")))
        wanted = self._policy.next_code_log_probs(state, prefixes).numpy()
        return feeds if prefixes.shape[2] == 0 else feeds | {"prefixes": prefixes.numpy()}, wanted

    def _prefixes(self, rows: int, level: int) -> Tensor:
        """(B, W, l) codes of items, and in the last beam at random, so that a prefix may be unknown."""
        beams = _BEAMS if level else 1
        items = torch.randint(len(self._codes), (rows, beams), generator=self._random)
        prefixes = self._codes[items, :level]
        for place, size in enumerate(self._policy.codebook_sizes[:level]):
            prefixes[:, -1, place] = torch.randint(size, (rows,), generator=self._random)
        return prefixes


def _of_recommendations(name: str, pairs: Sequence[tuple[list[Any], list[Any]]]) -> Agreement:
    hits = real = 0
    gaps = [(0.0, 0.0)]
    for (items, scores), (wanted, wanted_scores) in pairs:
        wanted_real = wanted >= 0
        hits += int(((items[:, :, None] == wanted[:, None, :]).any(axis=1) & wanted_real).sum())
        real += int(wanted_real.sum())
        same = (items == wanted) & wanted_real
        gaps.append(_gap(scores[same], wanted_scores[same]))
    return Agreement(name, *_largest(gaps), hits / max(1, real))


def _largest(gaps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of all parts; Python's own `max` would pass over NaN."""
    largest, relative = np.max(gaps, axis=0)
    return float(largest), float(relative)


def _gap(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> tuple[float, float]:
    """The largest difference, and the largest one over the number where that is above one; NaN stays NaN."""
    if found.shape != wanted.shape:
        raise ModelError(f"a graph answers shape {found.shape} where the model answers {wanted.shape}")
    gap = np.abs(found - wanted)
    return float(gap.max(initial=0.0)), float((gap / np.maximum(1.0, np.abs(wanted))).max(initial=0.0))
