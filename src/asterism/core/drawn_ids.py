"""Ids that are drawn: 128 random bits, which nobody draws twice, or fewer where fewer will do."""

from __future__ import annotations

import os
import random
import secrets

_drawn = random.Random()


def _seed() -> None:
    _drawn.seed(secrets.randbits(256))


_seed()
os.register_at_fork(after_in_child=_seed)


def drawn_id(digits: int = 32) -> str:
    """Hexadecimal digits, for names and not for secrets: the system is asked once, as it takes up to 20 µs."""
    return f"{_drawn.getrandbits(4 * digits):0{digits}x}"
