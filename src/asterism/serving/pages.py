"""Answers that may be given again: what a plain request got, while nothing it was made of has changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

from asterism.serving.item_facts import ItemFacts
from asterism.serving.recommendation import Recommendation
from asterism.stores.exposure_log import Shown
from asterism.stores.slates import Slate
from asterism.stores.user_state import Visitor


class PageKey(NamedTuple):
    """All that a plain request says."""

    visitor: Visitor
    session_id: str | None  # of a user, whose exposures are told apart by it
    scene: str | None
    device: str | None
    items: int  # asked for


def page_key_of(visitor: Visitor, scene: str | None, device: str | None, items: int) -> PageKey | None:
    """What a plain request's answer is kept under; None for nobody in particular."""
    key = visitor.key
    session_id = None if visitor.user_id is None else visitor.session_id
    return None if key is None else PageKey(key, session_id, scene, device, items)


class Page(NamedTuple):
    """An answer and what it was made of."""

    answer: Recommendation
    basis: Slate  # without its items: which state, which bundle, when
    unavailable: frozenset[str]  # the very object that the catalogue gave
    facts: ItemFacts  # as rules and caps went by
    shown: Shown


class Pages:
    """The pages of the visitors heard of last; for one event loop."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._kept: OrderedDict[PageKey, Page] = OrderedDict()

    def get(self, key: PageKey) -> Page | None:
        """The page of a key."""
        page = self._kept.get(key)
        if page is not None:
            self._kept.move_to_end(key)
        return page

    def keep(self, key: PageKey, page: Page) -> None:
        """Remember a page in place of an older one; of too many, the one asked for longest ago leaves."""
        self._kept[key] = page
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def users(self) -> list[str]:
        """Users who have pages, once a page."""
        return [one.visitor.user_id for one in self._kept if one.visitor.user_id is not None]

    def forget(self, visitors: Collection[Visitor]) -> None:
        """Delete all pages of some visitors; one walk over all pages, as forgetting is rare."""
        for key in [one for one in self._kept if one.visitor in visitors]:
            del self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)
