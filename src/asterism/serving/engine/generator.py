"""The trained generator of a bundle as an engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain, compress
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch

from asterism.core.bundle import Bundle
from asterism.core.records import ACTION_CODES
from asterism.core.semantic_id import SemanticId
from asterism.data.contexts import context_code
from asterism.data.item_attributes import ItemAttributes
from asterism.data.sequences import Asked, Sequences
from asterism.decoding.beam import always
from asterism.decoding.exclusion import ExcludedPairs
from asterism.decoding.item_filter import ItemFilter
from asterism.decoding.loading import TrainedRecommender, load_recommender
from asterism.decoding.predicates import PredicateFilters
from asterism.decoding.recommendations import Recommends
from asterism.decoding.state_cache import CacheLimits
from asterism.serving.engine.compact import CompactBatch, CompactMessages
from asterism.serving.ports import EngineAnswer, EngineRequest, HistoryEvent, ScoredItem
from asterism.stores.users import digest_of

#: What the states of returning users may take in one engine; who was asked for longest ago makes room.
_STATE_BYTES = 256 << 20
_ITEM, _TIMESTAMP, _ACTION = attrgetter("item_id"), attrgetter("timestamp"), attrgetter("action")
_UNKNOWN = -1  # a moment that the request does not tell


class GeneratorEngine:
    """Implements `ElasticEngine` by constrained generation and re-scoring."""

    def __init__(self, trained: TrainedRecommender, generator: Recommends | None = None) -> None:
        """What `trained` holds answers, unless another `generator` over the same catalogue shall."""
        self._ids = trained.item_ids
        self._table = trained.semantic_ids
        self._generator: Recommends = trained.generator if generator is None else generator
        self._beam = trained.config.decoding.beam
        self._states = trained.states
        self._attributes = trained.attributes
        attributes = ItemAttributes.of_table(trained.items)
        self._filters = PredicateFilters(attributes, self._table.codebook_sizes)
        self._categories = frozenset(attributes.category_names)
        self._reads_contexts = trained.policy.layout.contexts
        self._messages = None if self._reads_contexts else CompactMessages.of(self._ids.ids, self._table.codes)

    @property
    def beam(self) -> int:
        """See `ElasticEngine.beam`."""
        return self._beam

    def recommend(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """See `Engine.recommend`; events of items that the model does not know are left out of a history."""
        return self.recommend_within(requests, self._beam, always)

    def recommend_within(
        self, requests: Sequence[EngineRequest], beam: int, wanted: Callable[[], bool]
    ) -> list[EngineAnswer]:
        """See `ElasticEngine.recommend_within`."""
        histories = self._histories(requests)
        excluded = self._all_known([request.excluded for request in requests])
        found = self._generator.recommend(
            histories,
            [request.count for request in requests],
            excluded=excluded,
            filters=self._filters_of(requests),
            code_log_probs=False,
            beam=beam,
            users=_names([request.user_id for request in requests]),
            wanted=wanted,
        )
        paths = self._table.codes[found.items].tolist()
        return [
            self._answer(items[: request.count], scores, codes)
            for request, items, scores, codes in zip(
                requests, found.items.tolist(), found.scores.tolist(), paths, strict=True
            )
        ]

    def read(self, body: bytes) -> CompactBatch | None:
        """See `CompactEngine.read`."""
        return None if self._messages is None else self._messages.read(body)

    def recommend_compact(self, batch: CompactBatch, wanted: Callable[[], bool]) -> bytes:
        """See `CompactEngine.recommend_compact`."""
        assert self._messages is not None
        found = self._generator.recommend(
            batch.histories,
            batch.counts,
            excluded=ExcludedPairs(*batch.excluded),
            code_log_probs=False,
            beam=batch.beam or self._beam,
            users=_names(batch.users),
            wanted=wanted,
        )
        return self._messages.written(batch.counts, found.items, found.scores)

    def semantic_ids(self) -> dict[str, SemanticId]:
        """See `Engine.semantic_ids`."""
        return {item_id: self._table.path_of(item) for item, item_id in enumerate(self._ids)}

    def set_available(self, item_ids: Iterable[str], available: bool) -> None:
        """See `ElasticEngine.set_available`; the trie changes between two batches, in microseconds an item."""
        for item in self._known(item_ids).tolist():
            self._generator.set_available(item, available)

    def forget(self, digests: Sequence[str]) -> None:
        """See `Remembering.forget`."""
        if self._states is not None:
            self._states.forget(digests)

    def kept_bytes(self) -> dict[str, int]:
        """See `ElasticEngine.kept_bytes`: the states of returning users, and filters by category and price."""
        states = {} if self._states is None else {"states": self._states.bytes}
        return states | {"filters": self._filters.bytes}

    def _histories(self, requests: Sequence[EngineRequest]) -> Sequences:
        events = [event for request in requests for event in request.history]
        items = self._ids.encode(map(_ITEM, events))
        ends = np.cumsum([0, *(len(request.history) for request in requests)])
        known = items >= 0
        if not known.all():
            ends = np.concatenate([[0], np.cumsum(known)])[ends]
            events, items = list(compress(events, known.tolist())), items[known]
        histories = Sequences(
            ends.astype(np.int64),
            items.astype(np.int32),
            np.array(list(map(_TIMESTAMP, events)), dtype=np.int64),
            np.array(list(map(ACTION_CODES.__getitem__, map(_ACTION, events))), dtype=np.int8),
        )
        return self._with_contexts(histories, events, requests) if self._reads_contexts else histories

    def _with_contexts(
        self, histories: Sequences, events: Sequence[HistoryEvent], requests: Sequence[EngineRequest]
    ) -> Sequences:
        """The same with all that training may have read; what the service does not know is missing, as it was there."""
        values = [np.nan if event.value is None else event.value for event in events]
        times = [_UNKNOWN if request.timestamp is None else request.timestamp for request in requests]
        asked = Asked(
            np.array(times, dtype=np.int64),
            _codes(request.scene for request in requests),
            _codes(request.device for request in requests),
        )
        users = [request.user_id or "" for request in requests]
        return replace(
            histories,
            values=np.array(values, dtype=np.float32),
            scenes=_codes(event.scene for event in events),
            devices=_codes(event.device for event in events),
            attributes=None if self._attributes is None else self._attributes.rows(users),
            asked=asked,
        )

    def _known(self, item_ids: Iterable[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        indices = self._ids.encode(item_ids)
        return indices[indices >= 0]

    def _all_known(self, ids: Sequence[Collection[str]]) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """The same for many requests at once."""
        indices = self._ids.encode(chain.from_iterable(ids))
        stops = np.cumsum([len(one) for one in ids])
        return [one[one >= 0] for one in np.split(indices, stops[:-1])]

    def _filters_of(self, requests: Sequence[EngineRequest]) -> list[ItemFilter | None] | None:
        found = [self._filter_of(request) for request in requests]
        return None if all(one is None for one in found) else found

    def _filter_of(self, request: EngineRequest) -> ItemFilter | None:
        """What generation itself is held to.

        One of several categories is enough, so those that no item has here are left out; with none left, nothing goes
        through, and the other requests of the batch do not fail with this one.
        """
        listed = None if request.allowed is None else ItemFilter.allowing(self._known(request.allowed))
        wanted = request.wanted
        if wanted is None:
            return listed
        if wanted.categories:
            wanted = replace(wanted, categories=wanted.categories & self._categories)
            if not wanted.categories:
                return ItemFilter.allowing(())
        answering = self._filters.filter_of(wanted)
        return answering if listed is None else listed & answering

    def _answer(self, items: list[int], scores: list[float], paths: list[list[int]]) -> EngineAnswer:
        ids = self._ids.ids
        return EngineAnswer(
            tuple(
                ScoredItem(ids[item], score, tuple(path))
                for item, score, path in zip(items, scores, paths, strict=False)
                if item >= 0
            )
        )


def _names(user_ids: Sequence[str | None]) -> list[str | None]:
    """What users are remembered by: whoever is told to forget them may know no more than that."""
    return [None if one is None else digest_of(one) for one in user_ids]


def _codes(labels: Iterable[str | None]) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    return np.fromiter((context_code(label) for label in labels), dtype=np.uint16)


def load_engine(bundle: Path) -> GeneratorEngine:
    """Load a bundle's generator onto one thread; raises `BundleError`."""
    torch.set_num_threads(1)
    return GeneratorEngine(
        load_recommender(Bundle.open(bundle), state_cache=CacheLimits(_STATE_BYTES, only_returning=True))
    )
