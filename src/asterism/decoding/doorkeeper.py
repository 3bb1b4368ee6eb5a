"""Who may enter a cache: to keep whoever comes once costs work and room, and throws out those who return."""

from __future__ import annotations

from collections import OrderedDict


class Doorkeeper:
    """Lets a key in when it comes again (Einziger et al. 2017, TinyLFU), and remembers so many that came once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._met: OrderedDict[str, None] = OrderedDict()

    def forget(self, key: str) -> None:
        """As if the key had never come."""
        self._met.pop(key, None)

    def lets_in(self, key: str) -> bool:
        """Whether the key was here before; one that is let in has to come twice the next time too."""
        if key in self._met:
            del self._met[key]
            return True
        self._met[key] = None
        if len(self._met) > self._most:
            self._met.popitem(last=False)
        return False
