"""A generator whose batches are one call of a device each: histories in, items out, the host asked nothing between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from asterism.config.run import DecodingConfig
from asterism.core.errors import AbandonedError, ModelError, RequestError
from asterism.data.sequences import Sequences
from asterism.decoding.beam import always
from asterism.decoding.captured.answer_graph import COUNTS, GONE, SLOTS, UNORDERED, WIDTHS
from asterism.decoding.captured.block import Block
from asterism.decoding.captured.recording import Recorder
from asterism.decoding.captured.recordings import EMPTY, Answered, Recordings
from asterism.decoding.captured.stock import Filters, Stock
from asterism.decoding.exclusion import ExcludedPairs
from asterism.decoding.graph.code_levels import items_by_path
from asterism.decoding.graph.columns import Feeds, columns_of
from asterism.decoding.history_heads import NO_HEADS, HistoryHeads
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.recommendations import Recommendations, check_request
from asterism.decoding.rescoring import check_weights
from asterism.decoding.selection import no_number
from asterism.decoding.steps import PerRow, per_row
from asterism.decoding.trie_layout import Indices
from asterism.models.ugt import UGT
from asterism.models.ugt.inference import Precision

#: Rows of the largest graph; more are answered one part after the other.
MOST_ROWS: Final = 256


class _Asked(NamedTuple):
    """What a call asks for, row by row."""

    histories: Sequences
    gone: list[Indices]  # places to leave out, ascending
    filters: Filters  # one for each row, or none at all
    counts: Indices
    widths: Indices

    def part(self, rows: slice) -> _Asked:
        """Some of the rows, which follow one another."""
        histories = self.histories.take(np.arange(rows.start, rows.stop))
        return _Asked(histories, self.gone[rows], self.filters[rows], self.counts[rows], self.widths[rows])


class CapturedGenerator:
    """Recommends with a UGT over its catalogue, in the mode `rescored`, as `Generator` does."""

    def __init__(
        self,
        model: UGT,
        config: DecodingConfig,
        recorder: Recorder,
        *,
        heads: HistoryHeads = NO_HEADS,
        precision: Precision = "fp32",
        attributes: int = 1,
        most_rows: int = MOST_ROWS,
    ) -> None:
        """`attributes` that a user has at most; `most_rows` that are answered at once, down to a power of two.

        Raise `ConfigError` if all weights are zero, or where a head has weight and is not there, `ModelError` where the
        model is in training mode.
        """
        check_weights(config)
        heads.check(config)
        if model.training:
            raise ModelError("the model is in training mode, so dropout would change its scores; call eval() on it")
        self._beam, self._recorder = config.beam, recorder
        self._shape = model.shape.model
        self._most_rows = 1 << (most_rows.bit_length() - 1)
        self._stock = Stock(items_by_path(model), self._most_rows, recorder.device)
        answered = Answered(model, config, heads, precision, attributes)
        self._recordings = Recordings(answered, recorder, self._stock.table, self._most_rows)
        self._one_at_a_time = threading.Lock()  # a recording's inputs and outputs are one caller's

    def __len__(self) -> int:
        """How many items can be recommended now."""
        return len(self._stock)

    @property
    def recordings(self) -> Recordings:
        """The graphs, by sizes of batches; those that are not there yet are made when they are asked for."""
        return self._recordings

    def set_available(self, item: int, available: bool) -> None:
        """Take an item out, or back in; raises `UnknownIdError` if it was never there."""
        self._stock.set_available(item, available)

    @torch.inference_mode()
    def recommend(
        self,
        histories: Sequences,
        k: PerRow,
        *,
        excluded: Sequence[ArrayLike] | ExcludedPairs | None = None,
        filters: ItemFilter | Filters | None = None,
        code_log_probs: bool = False,
        beam: PerRow | None = None,
        users: Sequence[str | None] | None = None,
        wanted: Callable[[], bool] = always,
    ) -> Recommendations:
        """See `Generator.recommend`; nothing is kept of `users`, and log-probabilities of codes are not answered.

        `wanted` is asked before each part of a batch. Calls from several threads wait for each other. Raises what
        `Generator.recommend` raises, and `UnknownIdError` where a history has an item that the catalogue never had.
        """
        if code_log_probs:
            raise RequestError("captured graphs answer no log-probabilities of codes; ask a `Generator` for them")
        rows = len(histories)
        check_request(k if isinstance(k, int) else 1, "rescored")
        counts = per_row(k, rows, "k")
        widths = np.maximum(per_row(self._beam if beam is None else beam, rows, "beam"), counts)
        if users is not None and len(users) != rows:
            raise RequestError(f"`users` has {len(users)} rows for {rows} histories; give one for each")
        self._stock.check_known(histories.items, "of a history")
        asked = _Asked(histories, self._gone(excluded, rows), _of_rows(filters, rows), counts, widths)
        columns = int(np.max(k, initial=0))
        found = Recommendations(
            np.full((rows, columns), -1, dtype=np.int64), np.full((rows, columns), -np.inf, dtype=np.float32), None
        )
        for part in self._parts(asked):
            if not wanted():
                raise AbandonedError(f"nobody waits for these {rows} rows any more; they were left at row {part.start}")
            with self._one_at_a_time:
                self._stock.require_items()
                self._answer(asked.part(part), found.items[part], found.scores[part])
        return found

    def _gone(self, excluded: Sequence[ArrayLike] | ExcludedPairs | None, rows: int) -> list[Indices]:
        """By row the places to leave out, ascending, each once."""
        pairs, known = ExcludedPairs.of(excluded, rows), self._stock.known_items
        row_of, places = np.divmod(np.unique(pairs.rows * known + self._stock.places_of(pairs.items)), known)
        return np.split(places, np.searchsorted(row_of, np.arange(1, rows)))

    def _parts(self, asked: _Asked) -> Iterator[slice]:
        rows = len(asked.histories)
        step = self._recordings.most_rows(int(asked.widths.max(initial=1)))
        if asked.filters:
            step = min(step, self._stock.most_filters)
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows))

    def _answer(self, asked: _Asked, items: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Write the items and scores (rows, k) of rows that are answered at once."""
        rows, columns = len(asked.histories), columns_of(asked.histories, self._shape)
        lengths = {"gone": max(len(one) for one in asked.gone)}
        if "attributes" in columns:
            lengths["attributes"] = columns["attributes"].shape[1]
        recording = self._recordings.of(rows, int(asked.widths.max()), lengths)
        self._tell(recording.inputs, asked, columns)
        recording.inputs.send()
        recording.repeat()
        recording.outputs.fetch()
        self._recorder.wait()
        unordered = recording.outputs.host[UNORDERED.name][:rows]
        if unordered.any():
            raise no_number(int(unordered.argmax()))
        found, ordered = (recording.outputs.host[name][:rows, : items.shape[1]] for name in ("items", "scores"))
        within = (np.arange(found.shape[1]) < asked.counts[:, None]) & (ordered > -np.inf)
        np.copyto(items[:, : found.shape[1]], found, where=within)
        np.copyto(scores[:, : found.shape[1]], ordered, where=within)

    def _tell(self, block: Block, asked: _Asked, columns: Feeds) -> None:
        rows = len(asked.histories)
        for name, values in columns.items():
            held = block.host[name]
            held[...] = EMPTY.get(name, 0)
            if values.ndim == 1:
                held[:rows] = values
            else:
                held[:rows, held.shape[1] - values.shape[1] :] = values
        gone = block.host[GONE.name]
        gone[...] = self._stock.known_items
        for row, places in enumerate(asked.gone):
            gone[row, : len(places)] = places
        slots = self._stock.slots_of(asked.filters, rows)
        for port, numbers in ((SLOTS, slots), (WIDTHS, asked.widths), (COUNTS, asked.counts)):
            block.host[port.name][:rows] = numbers
            block.host[port.name][rows:] = numbers[0]  # of rows that nobody asked for


def _of_rows(filters: ItemFilter | Filters | None, rows: int) -> Filters:
    of_rows: Filters = [filters] * rows if isinstance(filters, ItemFilter) else filters or []
    if filters is not None and len(of_rows) != rows:
        raise RequestError(f"`filters` has {len(of_rows)} rows for {rows} histories; give one for each, or one for all")
    return of_rows
