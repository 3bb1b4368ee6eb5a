"""The generator: histories in, recommendations out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from asterism.config.run import DecodingConfig
from asterism.core.errors import ModelError, RequestError, UnknownIdError
from asterism.core.progress import track
from asterism.core.semantic_id import SemanticIdTable
from asterism.data.sequences import Sequences
from asterism.decoding.beam import Sizes, always, search
from asterism.decoding.exclusion import ExcludedPairs, Exclusions
from asterism.decoding.history_heads import NO_HEADS, HistoryHeads
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.recommendations import Mode, Recommendations, check_request
from asterism.decoding.rescoring import check_weights, rank, rescore
from asterism.decoding.snapshot import TrieSnapshot
from asterism.decoding.state_cache import StateCache
from asterism.decoding.steps import PerRow, per_row
from asterism.decoding.trie import Trie
from asterism.decoding.trie_layout import Indices
from asterism.models.policy import HistoryBatch, LimitsRows, Policy, layout_of

#: So many scores, 64 MiB of them, a step may compute at once.
_SCORES_AT_ONCE = 1 << 24
_MAX_ROWS_AT_ONCE = 256

Filters = Sequence[ItemFilter | None]  # one for each row, or none at all


class _Asked(NamedTuple):
    """What a call asks for, beside histories and what they must not be given."""

    view: TrieSnapshot
    counts: Indices  # (rows,) of the items wanted
    widths: Indices  # (rows,) of the beams
    mode: Mode
    scored: bool  # whether the codes' log-probabilities are wanted, or enter the score
    wanted: Callable[[], bool]


class Generator:
    """Recommends with one policy over one catalogue, whose items may come and go meanwhile.

    A call decodes one snapshot of the catalogue: changes do not wait for it, and it sees none that come later.
    """

    def __init__(
        self,
        policy: Policy,
        table: SemanticIdTable,
        config: DecodingConfig,
        *,
        heads: HistoryHeads = NO_HEADS,
        device: torch.device | str = "cpu",
        states: StateCache | None = None,
    ) -> None:
        """`states` keeps what was made of users who return.

        Raise `ModelError` if the policy's codebooks are not the table's, `ConfigError` if all weights are zero.
        """
        if tuple(policy.codebook_sizes) != table.codebook_sizes:
            raise ModelError(
                f"the policy writes codes of sizes {tuple(policy.codebook_sizes)}, the table has "
                f"{table.codebook_sizes}; load the table that the policy was trained on"
            )
        check_weights(config)
        self._policy = policy
        self._layout = layout_of(policy)
        self._limiting = policy if isinstance(policy, LimitsRows) else None
        self._config = config
        self._heads = heads
        self._device = device
        self._states = states
        self._trie = Trie.from_table(table)

    @property
    def heads(self) -> HistoryHeads:
        """What stands beside the policy in the final order."""
        return self._heads

    def __len__(self) -> int:
        """How many items can be recommended now."""
        return len(self._trie)

    def insert(self, item: int, path: Sequence[int]) -> None:
        """Make a new item recommendable; raises `ModelError` if its path is illegal or taken, or it is there already.

        Modes `rescored` and `rank` also ask the policy's item head for it.
        """
        self._trie.insert(item, path)

    def set_available(self, item: int, available: bool) -> None:
        """Take an item out, or back in under its last path; raises `UnknownIdError` if it was never there."""
        self._trie.set_present(item, available)

    def recommend(
        self,
        histories: Sequences,
        k: PerRow,
        *,
        exclude_history: bool = False,
        unavailable: Iterable[int] | NDArray[np.integer] = (),
        excluded: Sequence[ArrayLike] | ExcludedPairs | None = None,
        filters: ItemFilter | Filters | None = None,
        code_log_probs: bool = True,
        beam: PerRow | None = None,
        mode: Mode = "rescored",
        users: Sequence[str | None] | None = None,
        wanted: Callable[[], bool] = always,
        progress: bool = False,
    ) -> Recommendations:
        """The k best items for each history; -1 and -inf where fewer are left.

        `k` holds for all rows or names one number for each; the answer has the largest of them as its columns.
        `exclude_history` leaves out all of a row's own events, also those the policy does not read;
        `unavailable` items are left out of every row, `excluded[r]` out of row r, or the pairs that it holds; of the
        rest row r is given what `filters[r]` allows, or the one filter for all rows. Where states are kept, `users`
        names the rows that may be found again. The beam is as wide as configured unless `beam` says otherwise, for all
        rows or for each, and never narrower than the row's k. Where `wanted` turns false between two steps,
        `AbandonedError` is raised. A caller that needs no `code_log_probs` may save the policy's last steps: where they
        do not enter the score either, it is not asked for them once the items they could choose from are no more than
        the beam.
        Raises `RequestError` on a senseless request, `UnknownIdError` on an item index that the
        catalogue never had, `ConfigError` where a head has weight and is not there,
        `ModelError` if no item is left for anyone or the policy fails.
        """
        check_request(k if isinstance(k, int) else 1, mode)
        counts = per_row(k, len(histories), "k")
        self._check_policy()
        view = self._trie.snapshot()
        banned = _distinct(unavailable)
        pairs = _excluded_pairs(histories, exclude_history, excluded)
        _check_known(banned, view.known_items, "unavailable")
        _check_known(pairs.items, view.known_items, "an excluded item or a history's event")
        if len(banned) and np.count_nonzero(view.holds(banned)) == len(view):
            raise ModelError("the trie holds no item that is available; give fewer unavailable items, or insert some")
        of_rows = _filters_of_rows(filters, banned, len(histories))
        if users is not None and len(users) != len(histories):
            raise RequestError(f"`users` has {len(users)} rows for {len(histories)} histories; give one for each")
        widths = np.maximum(per_row(self._config.beam if beam is None else beam, len(histories), "beam"), counts)
        asked = _Asked(view, counts, widths, mode, code_log_probs or self._config.code_weight != 0, wanted)
        step = self._rows_at_once(asked)
        if 0 < len(histories) <= step:
            parts = [self._recommend_chunk(asked, histories, pairs, of_rows, users)]
        else:
            chunks = [np.arange(start, min(start + step, len(histories))) for start in range(0, len(histories), step)]
            parts = [
                self._recommend_chunk(
                    asked._replace(counts=counts[rows], widths=widths[rows]),
                    histories.take(rows),
                    _pairs_of(pairs, rows),
                    _rows_of(of_rows, rows),
                    None if users is None else [users[row] for row in rows.tolist()],
                )
                for rows in (track(chunks, "recommending") if progress else chunks)
            ]
        columns = k if isinstance(k, int) else int(np.max(k, initial=0))
        return _joined(parts, columns, mode != "rank" and code_log_probs)

    @torch.inference_mode()
    def _recommend_chunk(
        self,
        asked: _Asked,
        histories: Sequences,
        pairs: ExcludedPairs,
        filters: Filters,
        users: Sequence[str | None] | None,
    ) -> Recommendations:
        batch = HistoryBatch.from_sequences(histories, self._layout)
        state = self._encoded(batch, users)
        exclusions = Exclusions.of_pairs(asked.view, *pairs)
        if asked.mode == "rank":
            return Recommendations(*rank(self._policy, state, asked.view, asked.counts, exclusions, filters), None)
        rescored = asked.mode == "rescored"
        found = search(
            self._policy,
            state,
            asked.view,
            Sizes(asked.widths, asked.widths if rescored else asked.counts),
            exclusions,
            filters,
            scored=asked.scored or not rescored,
            wanted=asked.wanted,
        )
        if rescored:
            found, scores = rescore(self._policy, state, batch, found, asked.counts, self._config, self._heads)
            log_probs = None if found.code_log_probs is None else found.code_log_probs.numpy()
            return Recommendations(found.items.numpy(), scores, log_probs)
        assert found.code_log_probs is not None
        return Recommendations(found.items.numpy(), found.code_log_probs.numpy(), found.code_log_probs.numpy())

    def _encoded(self, histories: HistoryBatch, users: Sequence[str | None] | None) -> Tensor:
        if self._states is None or users is None:
            return self._policy.encode(histories.to(self._device))
        return self._states.encode(histories, users)

    def _check_policy(self) -> None:
        if isinstance(self._policy, torch.nn.Module) and self._policy.training:
            raise ModelError("the policy is in training mode, so dropout would change its scores; call eval() on it")

    def _rows_at_once(self, asked: _Asked) -> int:
        widest = int(asked.widths.max(initial=1))
        wide = asked.view.known_items if asked.mode == "rank" else widest * max(self._trie.codebook_sizes)
        held = _MAX_ROWS_AT_ONCE if self._limiting is None else self._limiting.rows_at_once
        return min(_MAX_ROWS_AT_ONCE, held, max(1, _SCORES_AT_ONCE // max(1, wide)))


def _distinct(items: Iterable[int] | NDArray[np.integer]) -> Indices:
    found = np.fromiter((int(item) for item in items), dtype=np.int64)
    return np.unique(found) if len(found) else found


def _excluded_pairs(
    histories: Sequences, exclude_history: bool, excluded: Sequence[ArrayLike] | ExcludedPairs | None
) -> ExcludedPairs:
    """All pairs of row and item to leave out."""
    given = ExcludedPairs.of(excluded, len(histories))
    if not exclude_history:
        return given
    rows = np.concatenate([np.repeat(np.arange(len(histories)), histories.lengths), given.rows])
    own = histories.slices(histories.offsets[:-1], histories.offsets[1:]).items.astype(np.int64)
    order = np.argsort(rows, kind="stable")
    return ExcludedPairs(rows[order], np.concatenate([own, given.items])[order])


def _pairs_of(pairs: ExcludedPairs, rows: Indices) -> ExcludedPairs:
    """The pairs of a run of rows, whose numbers then count from 0."""
    start, stop = np.searchsorted(pairs.rows, [rows[0], rows[-1] + 1])
    return ExcludedPairs(pairs.rows[start:stop] - rows[0], pairs.items[start:stop])


def _filters_of_rows(filters: ItemFilter | Filters | None, banned: Indices, rows: int) -> Filters:
    """A filter for each row that also leaves out what is banned; none at all where nothing is filtered."""
    of_rows: Filters = [filters] * rows if isinstance(filters, ItemFilter) else filters or []
    if filters is not None and len(of_rows) != rows:
        raise RequestError(f"`filters` has {len(of_rows)} rows for {rows} histories; give one for each, or one for all")
    if len(banned) == 0:
        return of_rows
    available = ItemFilter.denying(banned)
    both: dict[int, ItemFilter] = {id(one): available & one for one in of_rows if one is not None}
    return [available if one is None else both[id(one)] for one in of_rows or [None] * rows]


def _rows_of(filters: Filters, rows: Indices) -> Filters:
    return filters[int(rows[0]) : int(rows[-1]) + 1] if filters else filters


def _check_known(items: Indices, known: int, what: str) -> None:
    if len(items) and int(items.view(np.uint64).max()) >= known:  # below zero is beyond all as well
        strange = items[(items < 0) | (items >= known)]
        raise UnknownIdError(f"item index {int(strange[0])} ({what}) is outside the catalogue of {known} items")


def _joined(parts: list[Recommendations], k: int, with_log_probs: bool) -> Recommendations:
    """The parts' rows one below the other, in k columns."""
    if len(parts) == 1 and parts[0].items.shape[1] == k and with_log_probs == (parts[0].code_log_probs is not None):
        return parts[0]
    rows = sum(len(part) for part in parts)
    items = np.full((rows, k), -1, dtype=np.int64)
    scores = np.full((rows, k), -np.inf, dtype=np.float32)
    code_log_probs = scores.copy() if with_log_probs else None
    start = 0
    for part in parts:
        block = np.s_[start : start + len(part), : part.items.shape[1]]
        items[block], scores[block] = part.items, part.scores
        if code_log_probs is not None and part.code_log_probs is not None:
            code_log_probs[block] = part.code_log_probs
        start += len(part)
    return Recommendations(items, scores, code_log_probs)
