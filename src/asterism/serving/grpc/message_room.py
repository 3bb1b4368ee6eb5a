"""What travels together in one message: as much as its limit in bytes allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from asterism.serving.grpc.server import MOST_MESSAGE_BYTES

P = TypeVar("P")

#: Of one part, which is then alone in its message.
LARGEST_PART_BYTES: Final = MOST_MESSAGE_BYTES * 3 // 4
#: Of all parts of a message, where there are several.
ROOM_BYTES: Final = MOST_MESSAGE_BYTES // 2


def in_messages(parts: Sequence[P], size_of: Callable[[P], int], most: int) -> Iterator[list[P]]:
    """The parts in their order, at most so many a message, and no more than there is room for in bytes."""
    some: list[P] = []
    room = ROOM_BYTES
    for one in parts:
        size = size_of(one)
        if some and (size > room or len(some) == most):
            yield some
            some, room = [], ROOM_BYTES
        some.append(one)
        room -= size
    if some:
        yield some
