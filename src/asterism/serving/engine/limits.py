"""The dials of the engine processes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from asterism.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How many engines, how much they do at once, how much waits for them, and for how long they may be silent."""

    engines: int = 1  # processes with a model each; one thread a process
    pin: bool = False  # each process keeps to one core
    min_beam: int | None = None  # as narrow as a beam may get under load; an eighth of the configured one by default
    max_batch: int = 64
    max_pending: int = 512
    gather_seconds: float = 0.004  # for which an idle one waits for more requests, where these come often
    max_wait_seconds: float = 0.2  # of a request that brings no deadline
    load_timeout_seconds: float = 120.0
    batch_timeout_seconds: float = 10.0

    def core_of(self, engine: int) -> int | None:
        """The core of the n-th engine: the cores that this process may use, in turn; raises `ConfigError`."""
        if not self.pin:
            return None
        if not hasattr(os, "sched_getaffinity"):
            raise ConfigError("this system cannot bind a process to a core; serve without --pin")
        cores = sorted(os.sched_getaffinity(0))
        return cores[engine % len(cores)]
