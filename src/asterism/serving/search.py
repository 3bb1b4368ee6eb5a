"""Search: items whose words fit, and items that lie near those, fused by their places."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from asterism.core.errors import StoreUnavailableError, UnknownIdError
from asterism.stores.catalogue import Catalogue, Item, ItemFilter
from asterism.stores.vectors import VectorIndex

logger = logging.getLogger(__name__)

#: k of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009).
_FUSION: Final = 60
_HITS: Final = 100  # of each of the two lists that are fused
_SEEDS: Final = 3  # hits whose vectors stand for the question's
_AROUND: Final = 50  # neighbours of each


class Vectors(StrEnum):
    """What vectors did for an answer."""

    HITS = "hits"  # those of the best hits widened it
    NONE = "none"  # no hit has one
    UNAVAILABLE = "unavailable"  # the store that holds them does not answer


class Found(NamedTuple):
    """An item that was found, the sum of its 1 / (60 + place), and its places from 1 in the two lists."""

    item: Item
    score: float
    text_place: int | None
    vector_place: int | None


class SearchAnswer(NamedTuple):
    """Items, best first."""

    found: list[Found]
    vectors: Vectors


class Search:
    """Searches a catalogue and the vectors of its items; every method may be called from any thread.

    The question itself is not embedded: that would need the text model in the gateway, and item vectors are mostly
    fused of more than text. In its place stand the vectors of the best text hits (pseudo relevance feedback).
    """

    def __init__(self, catalogue: Catalogue, vectors: VectorIndex) -> None:
        self._catalogue = catalogue
        self._vectors = vectors

    def find(self, text: str, wanted: ItemFilter, count: int) -> SearchAnswer:
        """The best `count` available items; raises `StoreUnavailableError` where the catalogue is down."""
        hits = self._by_text(text, wanted)
        seeds = hits or self._by_text(text, ItemFilter())
        near, vectors = self._by_vectors([one.item_id for one in seeds[:_SEEDS]], wanted)
        items = {one.item_id: one for one in (*hits, *near)}
        text_places = {one.item_id: place for place, one in enumerate(hits, start=1)}
        vector_places = {one.item_id: place for place, one in enumerate(near, start=1)}
        found = []
        for item_id, item in items.items():
            places = text_places.get(item_id), vector_places.get(item_id)
            found.append(Found(item, sum(1 / (_FUSION + place) for place in places if place is not None), *places))
        found.sort(key=lambda one: (-one.score, one.item.item_id))
        return SearchAnswer(found[:count], vectors)

    def _by_text(self, text: str, wanted: ItemFilter) -> list[Item]:
        """By words; behind them titles that hold the text somewhere, as in scripts that put no spaces."""
        hits = {one.item_id: one for one in self._catalogue.find(text, wanted, _HITS)}
        part = unicodedata.normalize("NFC", text.strip())  # as nearly all titles are written
        if len(hits) < _HITS and part:
            for one in self._catalogue.search(part, wanted=wanted, limit=_HITS):
                hits.setdefault(one.item_id, one)
        return list(hits.values())[:_HITS]

    def _by_vectors(self, seeds: Sequence[str], wanted: ItemFilter) -> tuple[list[Item], Vectors]:
        """Items by falling mean cosine to the seeds, of which a better one weighs more."""
        try:
            around = {seed: near for seed in seeds if (near := self._around(seed)) is not None}
            if not around:
                return [], Vectors.NONE
            ids = list(dict.fromkeys([*around, *(one for near in around.values() for one in near)]))
            cosines = self._vectors.similarities(ids, list(around))
        except StoreUnavailableError as error:
            logger.warning("search goes without vectors: %s", error)
            return [], Vectors.UNAVAILABLE
        worth = cosines @ (1 / np.arange(1, len(around) + 1))
        known = self._catalogue.many(ids)
        ordered = (ids[row] for row in np.argsort(-worth, kind="stable").tolist())
        fitting = (known[one] for one in ordered if one in known and wanted.lets_through(known[one]))
        return [one for one in fitting if one.available][:_HITS], Vectors.HITS

    def _around(self, item_id: str) -> list[str] | None:
        try:
            near = self._vectors.nearest(item_id, _AROUND, self._catalogue.unavailable())
        except UnknownIdError:  # it came after the bundle
            return None
        return [one.item_id for one in near]
