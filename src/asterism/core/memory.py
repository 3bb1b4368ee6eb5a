"""The allocator's habits, set for loops that free and take the same large arrays thousands of times."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4

_TOP_PAD_BYTES = 64 << 20
_NEVER_TRIM_BYTES = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory instead of handing it back after each step; False where there is no glibc.

    Large arrays are otherwise fresh mappings whose pages the kernel clears again: 9,700 page faults a step of a
    full softmax over 12,101 items fell to 1,100, its wall time by a seventh (docs/log.md, 2026-11-21).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER_TRIM_BYTES), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
