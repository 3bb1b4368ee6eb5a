"""A supervised process ends when its supervisor is gone, however that went: its stdin is a pipe from it."""

from __future__ import annotations

import os
import threading
from typing import Final

_STDIN: Final = 0


def end_with_supervisor() -> None:
    """From now on, end at once when stdin ends; nobody would restart, stop or hear this process any more."""
    threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    try:
        while os.read(_STDIN, 1024):
            pass
    finally:
        os._exit(1)
