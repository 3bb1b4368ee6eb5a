"""The way in: all that a request passes before the routes, put together from a deployment's `[guard]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.types import ASGIApp

from asterism.config.guard import GuardConfig
from asterism.config.stores import StoresConfig
from asterism.core.clock import Clock, SystemClock
from asterism.core.errors import ConfigError
from asterism.serving.gate_check import refuse_open
from asterism.serving.http.listening import is_loopback
from asterism.serving.http.middleware.bodies import BodyLimits
from asterism.serving.http.middleware.callers import Callers
from asterism.serving.http.middleware.cors import Cors
from asterism.serving.http.middleware.frame import RequestFrame
from asterism.serving.http.middleware.guard import Guard
from asterism.serving.http.middleware.key_ring import KeyRing
from asterism.serving.http.middleware.limits import LeasedLimits, RequestLimits
from asterism.serving.http.scopes import RECOMMEND, SCOPES
from asterism.stores.api_keys import ApiKeys
from asterism.stores.opening import open_keys
from asterism.stores.rate_limits import LocalRateLimits, RateLimits


class Entrance(NamedTuple):
    """Who may come in, how often, and from pages of which origins."""

    callers: Callers
    limits: RequestLimits
    cors: Cors


@dataclass(frozen=True, slots=True)
class Gate:
    """Keys, limits and the configuration; `around` builds the middleware."""

    config: GuardConfig = field(default_factory=GuardConfig)
    ring: KeyRing | None = None
    limits: RateLimits = field(default_factory=lambda: LocalRateLimits(SystemClock()))
    only_here: bool = False  # without a key, only this machine is answered

    def entrance(self) -> Entrance:
        """What decides who comes in; for one event loop."""
        limits = RequestLimits(
            LeasedLimits(self.limits), self.config.key_per_second, {RECOMMEND: self.config.instance_per_second}
        )
        cors = Cors(self.config.origins)
        return Entrance(Callers(self.ring, cors, only_here=self.only_here), limits, cors)

    def around(self, app: ASGIApp, entrance: Entrance | None = None) -> ASGIApp:
        """The application behind frame, guard and limits on bodies; for one event loop."""
        callers, limits, cors = entrance or self.entrance()
        return RequestFrame(Guard(BodyLimits(app), callers, limits), cors, self.config.slow_ms / 1000)

    def close(self) -> None:
        """Let go of the keys' store."""
        if self.ring is not None:
            self.ring.close()


def open_gate(config: GuardConfig, stores: StoresConfig, limits: RateLimits, host: str) -> Gate:
    """The gate of a gateway that listens on `host`, with the keys of the deployment's catalogue.

    Raises `ConfigError` where others could come in without a key, or a limit is of no scope; `StorageError`.
    """
    return gate_over(config, open_keys(stores.catalogue, stores.timeout_seconds), limits, host)


def gate_over(config: GuardConfig, keys: ApiKeys, limits: RateLimits, host: str, clock: Clock | None = None) -> Gate:
    """The same over keys that are open already; the gate closes them."""
    unknown = sorted(set(config.key_per_second) - set(SCOPES))
    if unknown:
        raise ConfigError(f"`guard.key_per_second.{unknown[0]}` is no scope; known here: {', '.join(SCOPES)}")
    if config.keys == "off":
        keys.close()
        return Gate(config, None, limits)
    ring = KeyRing(keys, clock or SystemClock())
    try:
        refuse_open(host, has_keys=not ring.is_empty)
    except ConfigError:
        ring.close()
        raise
    return Gate(config, ring, limits, only_here=is_loopback(host))
