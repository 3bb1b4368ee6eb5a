"""A tier of the user-state cache: so many users, the one asked for longest ago first to go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from asterism.models.ugt.inference.memory import Memory, MemoryShape, Users


class Tier:
    """Users by key, in the order in which they were last asked for."""

    def __init__(self, shape: MemoryShape, max_bytes: int) -> None:
        self.user_bytes = shape.bytes
        self.capacity = max_bytes // shape.bytes
        self.memory = Memory(shape, self.capacity)
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._free = list(range(self.capacity))

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    @property
    def bytes(self) -> int:
        """What the users that are held take."""
        return len(self._slots) * self.user_bytes

    def slots_of(self, keys: Sequence[str]) -> Tensor:
        """(n,) where users stand, who count as asked for now."""
        for key in keys:
            self._slots.move_to_end(key)
        return torch.tensor([self._slots[key] for key in keys], dtype=torch.long)

    def take(self, keys: Sequence[str]) -> Users:
        """These users, who then are no longer here."""
        users = self.memory.get(self.slots_of(keys))
        self.forget(keys)
        return users

    def forget(self, keys: Sequence[str]) -> None:
        """Make room of these users."""
        self._free += [self._slots.pop(key) for key in keys]

    def oldest(self, count: int, busy: Collection[str]) -> list[str]:
        """Who has to go so that `count` more users find room, none of the `busy` ones."""
        needed = count - len(self._free)
        found: list[str] = []
        for key in self._slots:
            if len(found) >= needed:
                break
            if key not in busy:
                found.append(key)
        return found

    def admit(self, keys: Sequence[str]) -> Tensor:
        """(n,) the slots of new users, for whom there is room; what stands there is still somebody else's."""
        slots = [self._free.pop() for _ in keys]
        self._slots.update(zip(keys, slots, strict=True))
        return torch.tensor(slots, dtype=torch.long)
