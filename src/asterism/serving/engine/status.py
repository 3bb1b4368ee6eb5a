"""How the engine processes are, for operators and for those who depend on them."""

from __future__ import annotations

from typing import NamedTuple

from asterism.serving.scheduling import EngineFigures


class ReplicaStatus(NamedTuple):
    """One engine process."""

    ready: bool
    pid: int | None
    starts: int
    error: str | None
    kept_bytes: dict[str, int]  # what the model keeps between requests, each store by name


class EngineStatus(NamedTuple):
    """The engine processes as an operator sees them."""

    ready: bool
    pid: int | None  # of the first engine
    starts: int  # of all engines, first ones and restarts
    error: str | None  # why one is not ready, where that is known
    bundle_version: str
    widths: tuple[int, ...]  # that a beam may have, configured one first; empty where the engine has no beam
    engines: tuple[ReplicaStatus, ...]
    figures: EngineFigures
    processes: tuple[EngineStatus, ...] = ()  # of those that this is the sum of, in the order of their addresses
