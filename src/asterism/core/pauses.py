"""The interpreter's habits, set for processes that answer within milliseconds."""

from __future__ import annotations

import gc
import sys
from typing import Final

_SWITCH_SECONDS: Final = 0.0005  # ten times as often as is usual: an event loop must not wait for a busy thread


def keep_pauses_short() -> None:
    """Have threads give way sooner, and collections come seldom and pass over what is there now.

    To be called once all is loaded that stays: a collection that walks a catalogue's objects stalls every request.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)  # a request makes no cycles, so little waits for a collection
