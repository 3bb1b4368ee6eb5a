"""Each store of a deployment on servers is killed or frozen while visitors ask and click."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from asterism.config.stores import StoresConfig
from contracts.postgres_server import Postgres
from contracts.servers import ServerProcess
from serving.faults.deployment import Deployment
from serving.faults.load import Line, Load, Outcome, answered_by_model

_DOWN_SECONDS = 3.0


class Servers(NamedTuple):
    """What a deployment runs on."""

    redis: ServerProcess
    postgres: Postgres
    kafka: int  # the number of the process

    def down(self, name: str) -> None:
        """Kill a server; the brokers of the mock cluster keep everything in memory, so they are frozen."""
        if name == "redis":
            self.redis.kill()
        elif name == "postgres":
            self.postgres.kill()
        else:
            os.kill(self.kafka, signal.SIGSTOP)

    def up(self, name: str) -> None:
        """Bring it back."""
        if name == "redis":
            self.redis.start()
        elif name == "postgres":
            self.postgres.server.start()
        else:
            os.kill(self.kafka, signal.SIGCONT)


@pytest.fixture
def scaled(
    bundle: Path,
    tmp_path: Path,
    redis: tuple[ServerProcess, int],
    postgres: Postgres,
    kafka: tuple[int, str],
    name: str,
) -> Iterator[tuple[Deployment, Servers]]:
    stores = StoresConfig(
        catalogue=postgres.database("faults"),
        state=f"redis://127.0.0.1:{redis[1]}/0",
        bus=f"kafka://{kafka[1]}/faults",
        history=f"chdb:{tmp_path / 'history'}",
        vectors="exact",
        blobs=f"file:{tmp_path / 'blobs'}",
        timeout_seconds=2.0 if name == "kafka" else 10.0,  # a frozen bus is to be given up while it is frozen
    )
    with Deployment(bundle, tmp_path, stores) as running:
        yield running, Servers(redis[0], postgres, kafka[0])


def refused(one: Outcome) -> bool:
    return one.code != 0


@pytest.mark.parametrize("name", ["redis", "postgres", "kafka"])
def test_a_store_that_dies_under_load_loses_nothing(
    scaled: tuple[Deployment, Servers], note: Callable[[Line], None], name: str
) -> None:
    """Slates are given all the while; a click is refused only while it could not get onto the bus."""
    running, servers = scaled
    with Load(running.url) as load:
        load.wait_whole(0.0, answered_by_model)
        killed_at = time.monotonic()
        servers.down(name)
        time.sleep(_DOWN_SECONDS)
        servers.up(name)
        load.wait_whole(time.monotonic(), answered_by_model)
    note(load.line(f"{name} down for {_DOWN_SECONDS:g} s", killed_at, answered_by_model))
    during = [one for one in load.outcomes if one.at >= killed_at]
    assert [one for one in during if refused(one) and (one.is_read or name != "kafka")] == []
    running.check_books(load)
