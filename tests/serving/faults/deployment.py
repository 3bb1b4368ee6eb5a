"""A whole service in its processes, whose parts can be killed one at a time, and the books of what it kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Self

from confluent_kafka import Consumer, TopicPartition

from asterism.config.stores import StoresConfig
from asterism.stores.event_log import LocalEventLog
from asterism.stores.opening import open_history, open_users
from asterism.stores.user_state import Visitor
from serving.faults.load import VISITORS, Load
from serving.running import Server, wait_until

DEADLINE_MS = "1000"  # a fault must not hold up who asks, and on a slow machine too it is the model that answers
KEPT_UP_SECONDS = 180.0


class Deployment:
    """`asterism serve` over some stores; embedded ones by default."""

    def __init__(self, bundle: Path, folder: Path, stores: StoresConfig | None = None, *options: str) -> None:
        self.state = folder / "state"
        self.stores = stores or StoresConfig.embedded(self.state)
        if stores is not None:
            config = folder / "deployment.toml"
            lines = [f"{name} = {json.dumps(value)}" for name, value in stores.model_dump(exclude_none=True).items()]
            config.write_text("\n".join(["[stores]", *lines]) + "\n", encoding="utf-8")
            options = ("--config", str(config), *options)
        self.server = Server(bundle, self.state, "--deadline-ms", DEADLINE_MS, *options)
        self.server.wait_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.server.process.poll() is None:
            self.server.stop(signal.SIGKILL)

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return str(self.server.http.base_url)

    def pid(self, name: str) -> int:
        """The number of a process; it may be starting again just now."""
        found: list[int] = []

        def is_there() -> bool:
            path = self.state / "run" / f"{name}.pid"
            found[:] = [int(path.read_text())] if path.exists() else []
            return bool(found)

        wait_until(is_there)
        return found[0]

    def kill(self, name: str) -> float:
        """kill -9 of gateway, engine or worker; returns when."""
        os.kill(self.pid(name), signal.SIGKILL)
        return time.monotonic()

    def wait_restarted(self, name: str, before: int) -> None:
        """Return once the process runs under another number."""
        wait_until(lambda: self.pid(name) != before)

    def stop(self) -> int:
        """End it as an operator does; returns its status."""
        return self.server.stop()

    def check_books(self, load: Load) -> None:
        """Behaviours and history hold what was acknowledged, each event once; the service is stopped for the latter."""
        self._wait_kept_up(load)
        assert self.stop() == 0
        kept = self._behaviours()
        assert load.acknowledged <= set(kept) <= set(load.sent)
        assert set(kept.values()) == {1}
        history = open_history(self.stores.history)
        try:
            rows = Counter(one for table in history.events(0, 1 << 40) for one in table.column("event_id").to_pylist())
        finally:
            history.close()
        assert load.acknowledged <= set(rows) <= set(load.sent)
        assert set(rows.values()) == {1}
        if self.stores.bus.startswith("local:"):
            log = LocalEventLog(self.state / "events")
            logged = Counter(event.event_id for event in log.replay())
            log.close()
            assert logged == kept

    def _wait_kept_up(self, load: Load) -> None:
        wait_until(lambda: load.acknowledged <= set(self._behaviours()), KEPT_UP_SECONDS)
        if self.stores.bus.startswith("local:"):
            file = self.state / "events" / "groups" / "history.json"
            wait_until(lambda: file.exists() and json.loads(file.read_text())[-1] >= len(load.acknowledged))
        else:
            _wait_committed(self.stores.bus, "history")

    def _behaviours(self) -> Counter[str]:
        users = open_users(self.stores.catalogue)
        try:
            return Counter(
                event.event_id
                for number in range(VISITORS)
                for event in users.history(Visitor(user_id=f"u{number}"), 100_000)
                if event.event_id.startswith(f"u{number}-")
            )
        finally:
            users.close()


def _wait_committed(url: str, group: str) -> None:
    """Until a group of Kafka has committed all that lies on the bus; who looks is no member of it."""
    brokers, _, topic = url.removeprefix("kafka://").partition("/")
    with contextlib.closing(Consumer({"bootstrap.servers": brokers, "group.id": group})) as looking:

        def is_so() -> bool:
            numbers = looking.list_topics(topic, timeout=60).topics[topic].partitions
            places = looking.committed([TopicPartition(topic, one) for one in numbers], timeout=60)
            return all(max(0, one.offset) >= looking.get_watermark_offsets(one, timeout=60)[1] for one in places)

        wait_until(is_so, KEPT_UP_SECONDS)
