"""The recordings of one model: a graph a size of batch, with the tensors that it reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asterism.config.run import DecodingConfig
from asterism.core.progress import track
from asterism.decoding.captured.answer_graph import BEFORE, COUNTS, GONE, SLOTS, WIDTHS, answer_graph
from asterism.decoding.captured.block import Block
from asterism.decoding.captured.program import DeviceConstants, Program
from asterism.decoding.captured.recording import Directly, Recorder
from asterism.decoding.graph.ports import BATCH, history_ports
from asterism.decoding.graph.search import Search
from asterism.decoding.history_heads import HistoryHeads
from asterism.models.ugt import UGT
from asterism.models.ugt.inference import Precision

#: What stands in an input where nothing is told; 0 in all others.
EMPTY: Final = {"items": -1, "older_items": -1, "asked_timestamps": -1, "values": np.nan}
#: Items that a row may leave out in a graph that was recorded; a batch with a row of more is told anew.
_MOST_GONE: Final = 1024
#: Scores of a step; with what is made of them they take some ten times as many bytes.
_SCORES_AT_ONCE: Final = 1 << 26
_NARROWEST_SHARE: Final = 8  # of the configured beam, in graphs recorded before anything is asked


class Answered(NamedTuple):
    """What the graphs answer with; weights are read when a first graph is made, and must not change after that."""

    model: UGT
    config: DecodingConfig
    heads: HistoryHeads
    precision: Precision
    attributes: int  # that a user has at most


class Recording(NamedTuple):
    """A graph, ready to run."""

    inputs: Block
    outputs: Block
    repeat: Callable[[], None]


class Recordings:
    """Batches are padded to a power of two of rows and to the configured beam, doubled or halved."""

    def __init__(self, answered: Answered, recorder: Recorder, before: Tensor, most_rows: int) -> None:
        """`before` is the stock's table; `most_rows` of a batch, a power of two."""
        self._answered, self._recorder, self._before, self._most_rows = answered, recorder, before, most_rows
        self._constants = DeviceConstants(recorder.device)
        shape = answered.model.shape.model
        self._ports = (*history_ports(shape), SLOTS, GONE, WIDTHS, COUNTS)
        self._lengths: dict[str | int, int] = {
            "events": shape.max_events,
            "older_events": max(1, shape.max_history - shape.max_events),
            "attributes": answered.attributes,
            "gone": _MOST_GONE,
        }
        tree = answered.model.decoder.tree
        self._family = max(int(tree.level(number).counts.max()) for number in range(len(answered.model.codebook_sizes)))
        self._tables: dict[str, NDArray[Any]] = {}
        self._programs: dict[int, Program] = {}
        self._held: dict[tuple[int, int], Recording] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, rows: int, width: int, told: Mapping[str, int]) -> Recording:
        """One for at most so many rows, a beam of that width, and no less than is told of each axis' length."""
        size = 1 << (rows - 1).bit_length(), self._captured(width)
        longer: dict[str | int, int] = {one: told[one] for one in told if told[one] > self._lengths[one]}
        if longer:  # so rare that nothing is kept for it
            return self._made(*size, self._lengths | longer, Directly(self._recorder.device))
        if size not in self._held:
            self._held[size] = self._made(*size, self._lengths, self._recorder)
        return self._held[size]

    def most_rows(self, width: int) -> int:
        """How many rows of a beam of that width a device is given at once: a power of two, of bounded memory."""
        model, config, heads, *_ = self._answered
        wide = self._captured(width) * self._family
        if heads.neighbours is not None and config.neighbour_weight > 0:
            wide = max(wide, model.items.count)  # that head adds up a row of the catalogue
        return min(self._most_rows, 1 << (max(1, _SCORES_AT_ONCE // wide).bit_length() - 1))

    def record_all(self, progress: bool = False) -> None:
        """Record what is asked for most: batches of all sizes, by beams from an eighth of the configured one to it.

        The largest first: the smaller ones then find room in the memory that those take while they run. Wider beams,
        which requests of many items have, are recorded when they are asked for.
        """
        beam = self._answered.config.beam
        narrowest = self._captured(max(1, beam // _NARROWEST_SHARE))
        widths = sorted({self._captured(width) for width in range(narrowest, beam + 1)})
        sizes = [(1 << bit, width) for width in widths for bit in range(self.most_rows(width).bit_length())][::-1]
        for rows, width in track(sizes, "recording graphs", len(sizes)) if progress else sizes:
            self.of(rows, width, {})

    def _captured(self, width: int) -> int:
        """The least of the recorded beams that is as wide."""
        captured = self._answered.config.beam
        while captured < width:
            captured *= 2
        while captured > 1 and -(-captured // 2) >= width:
            captured = -(-captured // 2)
        return captured

    @torch.inference_mode()
    def _made(self, rows: int, width: int, lengths: dict[str | int, int], recorder: Recorder) -> Recording:
        program = self._program(width)
        of_batch = {**lengths, BATCH: rows}
        inputs = Block(self._ports, of_batch, recorder.device, pinned=recorder.pins)
        outputs = Block(program.outputs, of_batch, recorder.device, pinned=recorder.pins)
        for name, held in inputs.host.items():
            held[...] = EMPTY.get(name, 0)
        inputs.host[GONE.name][...] = self._answered.model.items.count
        inputs.send()

        def work() -> None:
            found = program.run({**inputs.device, BEFORE.name: self._before})
            for port, answer in zip(program.outputs, found, strict=True):
                outputs.device[port.name].copy_(answer)

        return Recording(inputs, outputs, recorder.record(work))

    def _program(self, width: int) -> Program:
        if width not in self._programs:
            model, config, heads, precision, _ = self._answered
            of_width = config.model_copy(update={"beam": width})
            graph = answer_graph(model, Search(width, "rescored", of_width, heads), self._tables)
            self._programs[width] = Program(graph, self._constants, precision)
        return self._programs[width]
