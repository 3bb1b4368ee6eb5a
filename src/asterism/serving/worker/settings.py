"""What a worker works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asterism.config.stores import StoresConfig
from asterism.serving.places import METRICS_HOST

#: What a worker does with the bus, a group of consumers each.
GROUPS: Final = ("behaviours", "history", "state", "nearline")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Which bundle is served, where the stores are, and who answers.

    Without engines there is no nearline group. With states in memory, that group asks the gateway that holds them.
    """

    bundle: Path
    state: Path  # the folder of the embedded stores
    stores: StoresConfig | None = None
    engine_addresses: tuple[str, ...] = ()
    gateway_address: str | None = None
    groups: tuple[str, ...] = GROUPS
    slate_items: int = 30  # that a nearline slate holds
    metrics_port: int | None = None  # where Prometheus finds `/metrics`
    metrics_host: str = METRICS_HOST

    @property
    def deployment(self) -> StoresConfig:
        """Where each store is."""
        return self.stores or StoresConfig.embedded(self.state)
