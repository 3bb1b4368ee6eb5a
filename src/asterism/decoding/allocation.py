"""The memory of a process that answers requests."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # glibc's malloc.h
_M_MMAP_THRESHOLD: Final = -3
_BYTES: Final = 1 << 30


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed for the next request; False where it cannot be told so.

    By default glibc gives large blocks back and fetches them anew, and each fetch faults in every page: a quarter of
    the time of a batch. A process that calls this keeps its highest use of memory until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(_M_MMAP_THRESHOLD, _BYTES), mallopt(_M_TRIM_THRESHOLD, _BYTES)])
