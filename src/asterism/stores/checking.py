"""Looks at the stores of a deployment as a service would use them, and leaves nothing behind.

What would reach others is not written: no event goes over the bus, and no schema is changed.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from asterism.core.errors import AsterismError, StorageError
from asterism.core.records import Action
from asterism.stores.event_log import Event, Forget, decode_record
from asterism.stores.folder_owner import owner_of
from asterism.stores.local_bus import groups_of
from asterism.stores.opening import WORKER, implementation, load, open_blobs, open_history, open_hot
from asterism.stores.segments import START, read_on
from asterism.stores.urls import StoreUrl
from asterism.stores.user_state import RecentEvent, Visitor


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one store; `latency_ms` is that of writing something and reading it again."""

    store: str
    where: str
    is_well: bool
    said: str
    latency_ms: float | None = None


class _Seen:
    """What a check learns on its way."""

    def __init__(self) -> None:
        self.facts: list[str] = []
        self.latency_ms: float | None = None

    def timed(self, action: Callable[[], object]) -> None:
        """Do a round trip and keep how long it took."""
        began = time.perf_counter()
        action()
        self.latency_ms = (time.perf_counter() - began) * 1000


def check_stores(urls: Mapping[str, str], timeout_seconds: float) -> Iterator[Finding]:
    """One finding a store, by its name in the configuration."""
    for store, url in urls.items():
        seen = _Seen()
        try:
            _CHECKS[store](url, timeout_seconds, seen)
        except AsterismError as error:
            yield Finding(store, StoreUrl.parse(url).shown, False, str(error))
        else:
            yield Finding(store, StoreUrl.parse(url).shown, True, ", ".join(seen.facts), seen.latency_ms)


def _catalogue(url: str, timeout_seconds: float, seen: _Seen) -> None:
    module = implementation(url)
    schema, users = load("sql_schema", "sql"), load("sql_users", "sql")
    database = module.Database(url, timeout_seconds=timeout_seconds, migrate=False)
    with closing(database):
        seen.facts.append(f"{database.name} {database.version()}")
        found, newest = database.revision(), schema.newest_revision()
        if found != newest:
            raise StorageError(
                f"{database.where}: the schema is {found or 'not made yet'}, and this version works with {newest}; "
                "run `asterism doctor --migrate`, or upgrade Asterism"
            )
        seen.facts.append(f"schema {found}")
        user_id = _name()
        probe = Event("checked", "checked", Action.CLICK, 1, user_id)
        store = users.SqlUsers(database)

        def round_trip() -> None:
            store.record([probe])
            _same(store.history(Visitor(user_id), 1), [probe])

        try:
            seen.timed(round_trip)
        finally:
            store.forget_behaviours(user_id)


def _state(url: str, timeout_seconds: float, seen: _Seen) -> None:
    with closing(open_hot(url, timeout_seconds=timeout_seconds / 5)) as hot:
        seen.facts.append("in process" if hot.client is None else f"Redis {hot.client.version()}")
        probe, event = Visitor(session_id=_name()), RecentEvent(1, "checked", Action.CLICK)

        def round_trip() -> None:
            hot.states.apply(probe, event)
            _same(hot.states.get(probe).recent, (event,))

        try:
            seen.timed(round_trip)
        finally:
            hot.states.forget(probe)


def _bus(url: str, timeout_seconds: float, seen: _Seen) -> None:
    parsed = StoreUrl.parse(url)
    if parsed.scheme == "local":
        folder = parsed.path()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise StorageError(f"{folder} cannot be written ({error}); make room, or name another place") from error
        records = [decode_record(line) for payload, _ in read_on(folder, START) for line in payload.splitlines()]
        seen.facts.append(f"local log, {sum(isinstance(one, Event) for one in records)} events read")
        seen.facts += _waited_for(folder, records)
        return
    bus = implementation(url).KafkaEventBus(url, timeout_seconds=timeout_seconds)
    with closing(bus):
        seen.facts.append(f"Kafka, {bus.version()}")


def _waited_for(folder: Path, records: Sequence[object]) -> Iterator[str]:
    """Of each group that has not read of users who were forgotten; their names stay until it has."""
    for group in groups_of(folder):
        users = {one.user_id for one in records[group.lines :] if isinstance(one, Forget)}
        if users:
            since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(group.at_seconds))
            lock = folder / "groups" / f"{group.name}.lock"
            yield (
                f"the names of {len(users)} forgotten users stay until group {group.name!r} reads on, which committed "
                f"nothing since {since} (where it never runs again: delete {lock})"
            )


def _history(url: str, timeout_seconds: float, seen: _Seen) -> None:
    parsed = StoreUrl.parse(url)
    owner = owner_of(parsed.path()) if parsed.scheme == "chdb" else None
    if owner is not None and owner.role == WORKER:
        seen.facts.append(f"in use by the worker, process {owner.pid}")
        return
    with closing(open_history(url, timeout_seconds=timeout_seconds)) as history:
        seen.facts += [f"engine {history.version()}", f"{len(history)} events"]
        probe = _name()
        seen.timed(lambda: _same(history.echo(probe), probe))


def _vectors(url: str, timeout_seconds: float, seen: _Seen) -> None:
    if url == "exact":
        seen.facts.append("in process")
        return
    module = implementation(url)
    with closing(module.MilvusVectorIndex(url, timeout_seconds=timeout_seconds)) as index:
        seen.facts += [f"Milvus {index.version()}", f"{len(index)} vectors"]
    parsed = StoreUrl.parse(url)
    place = url.partition("?")[0].rstrip("/")
    beside = f"{place if parsed.rest.count('/') else place + '/items'}_{secrets.token_hex(4)}?index=FLAT"
    with closing(module.MilvusVectorIndex(beside, timeout_seconds=timeout_seconds)) as index:

        def round_trip() -> None:
            index.put(["near", "far"], np.eye(2))
            _same(index.nearest("near", 1)[0].item_id, "far")

        try:
            seen.timed(round_trip)
        finally:
            index.drop()


def _blobs(url: str, timeout_seconds: float, seen: _Seen) -> None:
    with closing(open_blobs(url, timeout_seconds=timeout_seconds)) as blobs:
        name = _name()

        def round_trip() -> None:
            _same(blobs.create(name, b"checked"), True)
            _same(blobs.get(name).data, b"checked")
            _same(blobs.create(name, b"twice"), False)

        try:
            seen.timed(round_trip)
        finally:
            blobs.delete(name)
        seen.facts.append("conditional writes hold")


_CHECKS: Final[Mapping[str, Callable[[str, float, _Seen], None]]] = {
    "catalogue": _catalogue,
    "state": _state,
    "bus": _bus,
    "history": _history,
    "vectors": _vectors,
    "blobs": _blobs,
}


def _name() -> str:
    return f"asterism-doctor-{secrets.token_hex(8)}"


def _same(found: Any, written: Any) -> None:
    if found != written:
        raise StorageError(f"{written!r} was written and {found!r} was read; the store is not to be trusted")
