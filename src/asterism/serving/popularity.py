"""How often each item was wanted, overall and by category; put in order where somebody asks for that."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_MOST_MOVED: Final = 256  # items whose places are not put right yet: some two milliseconds for who asks


class _Ranking:
    """Item ids by falling count; a change costs two binary searches and a short move in memory."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._order = sorted((-count, item_id) for item_id, count in counts.items())

    def move(self, item_id: str, before: int, after: int) -> None:
        old = (-before, item_id)
        place = bisect.bisect_left(self._order, old)
        if place < len(self._order) and self._order[place] == old:
            del self._order[place]
        bisect.insort(self._order, (-after, item_id))

    def __iter__(self) -> Iterator[str]:
        return (item_id for _, item_id in self._order)


class Popularity:
    """Counts positive events; every catalogue item takes part, also those nobody touched yet."""

    def __init__(self, categories_of: Mapping[str, tuple[str, ...]], wanted: Iterable[str] | Mapping[str, int]) -> None:
        """Take the categories of every item, and the item of every earlier positive event, or their counts."""
        counts = Counter(wanted)
        self._categories_of = categories_of
        self._begun_with: Mapping[str, int] = {}  # until it has caught up with the one that it was made over
        self._changed: set[str] | None = None  # since another was made over these counts
        self._counts = {item_id: counts[item_id] for item_id in categories_of}
        # Of items outside this catalogue, which another may hold.
        self._elsewhere = {item_id: count for item_id, count in counts.items() if item_id not in categories_of}
        members: dict[str, dict[str, int]] = {}
        for item_id, categories in categories_of.items():
            for category in categories:
                members.setdefault(category, {})[item_id] = self._counts[item_id]
        self._moved: dict[str, int] = {}  # items by the count at which the rankings still have them
        self._overall = _Ranking(self._counts)
        self._by_category = {category: _Ranking(of_items) for category, of_items in members.items()}

    def add(self, item_id: str, times: int = 1) -> None:
        """Count so many more positive events; an item outside the catalogue is not ranked."""
        if self._changed is not None:
            self._changed.add(item_id)
        before = self._counts.get(item_id)
        if before is None:
            self._elsewhere[item_id] = self._elsewhere.get(item_id, 0) + times
            return
        if times == 0:
            return
        self._counts[item_id] = before + times
        self._moved.setdefault(item_id, before)
        if len(self._moved) > _MOST_MOVED:
            self._put_in_order()

    def over(self, categories_of: Mapping[str, tuple[str, ...]]) -> Popularity:
        """The same counts over another catalogue; may be asked for in another thread."""
        self._changed = set()
        counts = self._elsewhere | self._counts
        found = Popularity(categories_of, counts)
        found._begun_with = counts
        return found

    def catch_up(self, earlier: Popularity) -> None:
        """Add what was counted in the `earlier` one, since this was made over its counts."""
        for item_id in earlier._changed or ():
            count = earlier._counts.get(item_id, earlier._elsewhere.get(item_id, 0))
            self.add(item_id, count - self._begun_with.get(item_id, 0))
        self._begun_with, earlier._changed = {}, None

    def count(self, item_id: str) -> int:
        """Positive events of an item."""
        return self._counts.get(item_id, 0)

    def ranked_among(self, item_ids: Iterable[str], category: str | None = None) -> list[str]:
        """The same order of some items of the catalogue, of one category or of all."""
        within = (one for one in item_ids if category is None or category in self._categories_of.get(one, ()))
        return sorted(within, key=lambda one: (-self.count(one), one))

    def ranked(self, category: str | None = None) -> Iterator[str]:
        """Item ids, most wanted first, ties by id; of one category, or of all."""
        self._put_in_order()
        return iter(self._overall if category is None else self._by_category.get(category, ()))

    def _put_in_order(self) -> None:
        for item_id, before in self._moved.items():
            now = self._counts[item_id]
            self._overall.move(item_id, before, now)
            for category in set(self._categories_of[item_id]):
                self._by_category[category].move(item_id, before, now)
        self._moved = {}
