"""Whose answers are being made: who is forgotten meanwhile is to be neither recorded nor remembered by them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from asterism.stores.user_state import Visitor


class Answering:
    """The answers to one visitor that are under way together; a context that each of them enters."""

    __slots__ = ("_answers", "_under_way", "_visitor", "is_void")

    def __init__(self, visitor: Visitor | None, under_way: dict[Visitor, Answering]) -> None:
        self.is_void = False  # the visitor was forgotten since the first of them began
        self._visitor = visitor
        self._under_way = under_way
        self._answers = 0

    def __enter__(self) -> Answering:
        self._answers += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._answers -= 1
        if self._visitor is not None and not self._answers and self._under_way.get(self._visitor) is self:
            del self._under_way[self._visitor]


_NOBODYS: Final = Answering(None, {})


class UnderWay:
    """Answers by visitor's key, from before the visitor's state is read; for one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Visitor, Answering] = {}

    def to(self, key: Visitor | None) -> Answering:
        """What an answer enters; one of nobody in particular is never void."""
        if key is None:
            return _NOBODYS
        found = self._under_way.get(key)
        if found is None:
            found = self._under_way[key] = Answering(key, self._under_way)
        return found

    def users(self) -> list[str]:
        """Users to whom an answer is under way."""
        return [one.user_id for one in self._under_way if one.user_id is not None]

    def forget(self, visitors: Iterable[Visitor]) -> None:
        """Make void what is under way; what begins from now on stands."""
        for one in visitors:
            found = self._under_way.pop(one, None)
            if found is not None:
                found.is_void = True

    def __len__(self) -> int:
        return len(self._under_way)
