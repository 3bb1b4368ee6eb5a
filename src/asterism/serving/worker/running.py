"""The worker: follows the bus in several groups, each of which goes on whatever happens to the others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Final

from asterism.config.stores import StoresConfig
from asterism.core.bundle import Bundle
from asterism.core.errors import ConfigError
from asterism.serving.bundle_tables import read_histories
from asterism.serving.features.earlier import EarlierEvents, recent_kept
from asterism.serving.grpc.remote_engine import RemoteEngine
from asterism.serving.telemetry.exposition import serving_metrics
from asterism.serving.telemetry.worker_process import instrument_worker
from asterism.serving.worker.batches import Handler
from asterism.serving.worker.forgotten import ForgottenUsers
from asterism.serving.worker.group import Group
from asterism.serving.worker.handlers import Behaviours, History, States
from asterism.serving.worker.nearline_group import Nearline
from asterism.serving.worker.settings import GROUPS, WorkerSettings
from asterism.serving.worker.visitors import GatewayVisitors, StoredVisitors, Visitors
from asterism.stores.event_bus import Consumer
from asterism.stores.opening import WORKER, Hot, open_consumer, open_history, open_hot, open_users

logger = logging.getLogger(__name__)

_STOP_SECONDS: Final = 20.0
_SOON_SECONDS: Final = 0.02  # how long a new event may lie unseen where somebody waits for what it changes
#: An insert of chDB costs some 70 ms of CPU, whether of ten events or of ten thousand; slates are cheaper in batches.
_GATHER_SECONDS: Final = {"behaviours": 0.2, "history": 2.0, "nearline": 0.05}
_LONGEST_GATHER_SECONDS: Final = {"behaviours": 1.0, "nearline": 0.2}  # where many events come
_BATCH: Final = {"history": 10_000}


class Worker:
    """All groups of one worker; `groups` tells of each how it goes."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)

    def start(self) -> None:
        """Start every group in a thread of its own."""
        for one in self.groups:
            one.start()

    def stop(self) -> None:
        """Let every group finish and commit what it holds; returns when all ended, or after twenty seconds."""
        for one in self.groups:
            one.stop()
        for one in self.groups:
            if not one.join(_STOP_SECONDS):
                logger.warning("worker group %s did not end; what it holds will come again", one.name)


def open_worker(settings: WorkerSettings) -> Worker:
    """The groups that a deployment needs, not started; raises `ConfigError` on a group nobody knows."""
    unknown = [one for one in settings.groups if one not in GROUPS]
    if unknown:
        raise ConfigError(f"a worker has no group {unknown[0]!r}; known here: {', '.join(GROUPS)}")
    stores = settings.deployment
    openers: dict[str, Callable[[], Handler]] = {
        "behaviours": lambda: Behaviours(open_users(stores.catalogue, stores.timeout_seconds)),
        "history": lambda: History(open_history(stores.history, stores.timeout_seconds, WORKER)),
    }
    if stores.state != "memory":
        openers["state"] = lambda: _states(settings, stores)
    if settings.engine_addresses:
        openers["nearline"] = lambda: _nearline(settings, stores)
    return Worker([_group(name, stores, opener) for name, opener in openers.items() if name in settings.groups])


def run_worker(settings: WorkerSettings, stop: threading.Event) -> None:
    """Work until `stop` is set, then commit and end."""
    worker = open_worker(settings)
    telemetry = instrument_worker(worker)
    with serving_metrics(settings.metrics_port, telemetry.registry, settings.metrics_host):
        worker.start()
        stop.wait()
        worker.stop()
    telemetry.close()


def _group(name: str, stores: StoresConfig, opener: Callable[[], Handler]) -> Group:
    def consumer() -> Consumer:
        return open_consumer(stores.bus, name, stores.timeout_seconds)

    return Group(
        name,
        consumer,
        opener,
        batch=_BATCH.get(name, 500),
        poll_seconds=0.2 if name in {"behaviours", "history"} else _SOON_SECONDS,
        gather_seconds=_GATHER_SECONDS.get(name, 0.0),
        longest_gather_seconds=_LONGEST_GATHER_SECONDS.get(name),
    )


def _nearline(settings: WorkerSettings, stores: StoresConfig) -> Nearline:
    def visitors() -> Visitors:
        if stores.state != "memory":
            return StoredVisitors(*_shared(settings, stores))
        if settings.gateway_address is None:
            raise ConfigError("state is 'memory', so the nearline group needs the address of the gateway that has it")
        return GatewayVisitors(settings.gateway_address)

    return Nearline(lambda: RemoteEngine(settings.engine_addresses), visitors, settings.slate_items)


def _states(settings: WorkerSettings, stores: StoresConfig) -> States:
    return States(*_shared(settings, stores))


def _shared(settings: WorkerSettings, stores: StoresConfig) -> tuple[Hot, ForgottenUsers]:
    """The stores that gateways share, and who is forgotten in them, which is followed from now on."""
    bundle = Bundle.open(settings.bundle)
    with ExitStack() as opened:
        users = opened.enter_context(closing(open_users(stores.catalogue, stores.timeout_seconds)))
        known = users.forgotten().at_seconds
        earlier = EarlierEvents(read_histories(bundle), known)
        hot = open_hot(
            stores.state,
            timeout_seconds=stores.timeout_seconds / 5,
            max_recent=recent_kept(bundle),
            earlier=earlier,
        )
        opened.pop_all()  # `forgotten` closes them
    forgotten = ForgottenUsers(users, known, earlier, hot.states)
    forgotten.start()
    return hot, forgotten
