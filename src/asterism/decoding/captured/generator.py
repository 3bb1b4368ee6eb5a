"""A generator whose batches are one call of a device each: histories in, items out, the host asked nothing between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from asterism.config.run import DecodingConfig
from asterism.core.errors import AbandonedError, RequestError
from asterism.data.sequences import Sequences
from asterism.decoding.beam import always
from asterism.decoding.captured.answer_graph import COUNTS, GONE, SLOTS, UNORDERED, WIDTHS
from asterism.decoding.captured.block import Block
from asterism.decoding.captured.recording import Recorder
from asterism.decoding.captured.recordings import EMPTY, Answered, Recordings
from asterism.decoding.captured.stock import Filters, Stock
from asterism.decoding.exclusion import ExcludedPairs
from asterism.decoding.graph.code_levels import items_below
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
        """`attributes` that a user has at most; `most_rows` that are answered at once, a power of two.

        Raise `ConfigError` if all weights are zero, or where a head has weight and is not there.
        """
        check_weights(config)
        heads.check(config)
        self._beam, self._most_rows, self._recorder = config.beam, most_rows, recorder
        self._shape = model.shape.model
        self._stock = Stock(items_below(model)[0], most_rows, recorder.device)
        answered = Answered(model.eval(), config, heads, precision, attributes)
        self._recordings = Recordings(answered, recorder, self._stock.table, most_rows)

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

    @torch.no_grad()
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

        `wanted` is asked before each part of a batch. Raises what `Generator.recommend` raises.
        """
        if code_log_probs:
            raise RequestError("captured graphs answer no log-probabilities of codes; ask a `Generator` for them")
        rows = len(histories)
        check_request(k if isinstance(k, int) else 1, "rescored")
        counts = per_row(k, rows, "k")
        widths = np.maximum(per_row(self._beam if beam is None else beam, rows, "beam"), counts)
        self._stock.require_items()
        asked = _Asked(histories, self._gone(excluded, rows), _of_rows(filters, rows), counts, widths)
        columns = k if isinstance(k, int) else int(counts.max(initial=0))
        found = Recommendations(
            np.full((rows, columns), -1, dtype=np.int64), np.full((rows, columns), -np.inf, dtype=np.float32), None
        )
        for part in self._parts(rows, len(asked.filters) > 0):
            if not wanted():
                raise AbandonedError(f"nobody waits for these {rows} rows any more; they were left at row {part.start}")
            self._answer(asked.part(part), found.items[part], found.scores[part])
        return found

    def _gone(self, excluded: Sequence[ArrayLike] | ExcludedPairs | None, rows: int) -> list[Indices]:
        """By row the places to leave out, ascending, each once."""
        pairs, known = ExcludedPairs.of(excluded, rows), self._stock.known_items
        row_of, places = np.divmod(np.unique(pairs.rows * known + self._stock.places_of(pairs.items)), known)
        return np.split(places, np.searchsorted(row_of, np.arange(1, rows)))

    def _parts(self, rows: int, filtered: bool) -> Iterator[slice]:
        step = min(self._most_rows, self._stock.most_filters) if filtered else self._most_rows
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
