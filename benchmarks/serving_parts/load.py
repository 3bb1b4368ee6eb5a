"""Load over HTTP/1.1 from a process of its own: closed loops find a capacity, open loops tell latencies at a rate.

An open loop's moments are drawn beforehand, and a latency runs from the moment at which its request should have been
sent: where the server, or this process, comes too late, every request that waits pays for it (no coordinated
omission). One thread, which waits by `select` for its `epoll`, as the latter's own clock ticks in milliseconds.
"""

from __future__ import annotations

import math
import multiprocessing
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.pool import Pool
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_PATIENCE_SECONDS = 30.0  # after the last request; whoever has no answer by then hangs
_READ_BYTES = 1 << 16  # more would be mapped and unmapped for every read
_SOURCES = {b'"source":"model"': "model", b'"source":"stale"': "stale", b'"source":"popular': "popular"}


class Call(NamedTuple):
    """A whole request as bytes, and what it is counted as."""

    kind: str
    request: bytes


@dataclass(slots=True)
class Outcomes:
    """What became of requests: milliseconds by kind, and counts."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)  # answered, refused, failed, hanging, and sources
    lateness_ms: list[float] = field(default_factory=list)  # of the generator itself, before it had a free connection
    seconds: float = 0.0

    def __iadd__(self, other: Outcomes) -> Outcomes:
        for kind, ms in other.ms.items():
            self.ms.setdefault(kind, []).extend(ms)
        self.counts.update(other.counts)  # adds them
        self.lateness_ms += other.lateness_ms
        self.seconds += other.seconds
        return self

    def row(self) -> dict[str, Any]:
        """Figures of all requests and of each kind."""
        everything = [one for of_kind in self.ms.values() for one in of_kind]
        asked = len(everything) + self.counts["failed"] + self.counts["hanging"]
        return {
            "requests": asked,
            "per_second": round(self.counts["answered"] / self.seconds, 1),
            "error_share": round(1 - self.counts["answered"] / max(1, asked), 6),
            **{name: self.counts[name] for name in sorted(self.counts)},
            **percentiles(everything),
            "kinds": {kind: {"requests": len(found), **percentiles(found)} for kind, found in sorted(self.ms.items())},
            "generator_late_p99_ms": percentiles(self.lateness_ms).get("p99_ms"),
        }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th, 99th and 99.9th percentile and the greatest."""
    if not values:
        return {}
    names = {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "p999_ms": 99.9, "max_ms": 100}
    return {name: round(float(np.percentile(values, share)), 3) for name, share in names.items()}


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """A POST request of JSON as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}{headers}content-length: {len(body)}\r\n\r\n".encode() + body


def poisson(rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Moments of arrivals at a mean rate a second."""
    return np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, round(rate * seconds)))


def open_loop(
    address: tuple[str, int],
    calls: Sequence[Call],
    rate: float,
    seconds: float,
    *,
    connections: int = 64,
    seed: int = 0,
) -> Outcomes:
    """Send `calls`, again and again, at the moments of a Poisson process."""
    return _elsewhere(address, calls, poisson(rate, seconds, seed), None, connections)


def closed_loop(address: tuple[str, int], calls: Sequence[Call], seconds: float, *, connections: int = 16) -> Outcomes:
    """Each connection sends its next call as soon as it has its answer."""
    return _elsewhere(address, calls, None, seconds, connections)


def each_once(address: tuple[str, int], calls: Sequence[Call], *, connections: int = 16) -> Outcomes:
    """A closed loop that ends when every call was sent once, however long that takes."""
    return _elsewhere(address, calls, None, None, connections)


def _elsewhere(
    address: tuple[str, int],
    calls: Sequence[Call],
    moments: NDArray[np.float64] | None,
    seconds: float | None,
    connections: int,
) -> Outcomes:
    return _process().apply(_run, (address, calls, moments, seconds, connections))


@cache
def _process() -> Pool:
    """The one that makes all load: a new one would import everything anew while the next load is to be measured."""
    return multiprocessing.get_context("spawn").Pool(1)


class _Connection:
    """One socket; one request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.number = -1  # of its socket
        self.kind = ""
        self.due = 0.0
        self.is_busy = False
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(self._address, timeout=5.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self.socket.fileno()
        self._received = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, call: Call, due: float) -> bool:
        self.kind, self.due, self.is_busy = call.kind, due, True
        try:
            self.socket.sendall(call.request)
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """The whole answer once it is there; raises `OSError` where the server hung up."""
        part = self.socket.recv(_READ_BYTES)
        if not part:
            raise ConnectionResetError
        received = self._received + part if self._received else part
        head_end = received.find(b"\r\n\r\n")
        if head_end >= 0:
            at = received[:head_end].lower().find(b"content-length: ")
            length = int(received[at + 16 : received.find(b"\r\n", at)])
            if len(received) >= head_end + 4 + length:
                self._received = b""
                return received
        self._received = received
        return None

    def reconnect(self) -> bool:
        self.is_busy = False
        self.socket.close()
        try:
            self.connect()
        except OSError:
            return False
        return True


def _run(
    address: tuple[str, int],
    calls: Sequence[Call],
    moments: NDArray[np.float64] | None,
    seconds: float | None,
    connections: int,
) -> Outcomes:
    return _Runner(address, calls, connections).run(moments, seconds)


class _Runner:
    """Drives all connections from one thread."""

    def __init__(self, address: tuple[str, int], calls: Sequence[Call], connections: int) -> None:
        self._all = [_Connection(address) for _ in range(connections)]
        self._free = deque(self._all)
        self._by_number = {one.fileno(): one for one in self._all}
        self._readable = select.epoll()
        for number in self._by_number:
            self._readable.register(number, select.EPOLLIN)
        self._broken: list[_Connection] = []
        self._calls = calls
        self._next = 0
        self.outcomes = Outcomes()

    def run(self, moments: NDArray[np.float64] | None, seconds: float | None) -> Outcomes:
        start = time.perf_counter() + 0.05
        if moments is not None:
            due = iter((start + moments).tolist())
            end = start + float(moments[-1])
        else:
            due, end = None, start + seconds if seconds is not None else math.inf
        waiting: deque[float] = deque()
        upcoming = next(due, None) if due is not None else None
        while True:
            now = time.perf_counter()
            if due is None:
                while self._free and now < end:
                    self._send(now)
                    if seconds is None and self._next == len(self._calls):
                        end = now
            while upcoming is not None and upcoming <= now:
                waiting.append(upcoming)
                self.outcomes.lateness_ms.append(1000 * (now - upcoming))
                upcoming = next(due, None) if due is not None else None
            while waiting and self._free:
                self._send(waiting.popleft())
            if self._is_done(now, end, upcoming, waiting):
                break
            self._wait(max(0.0, min(0.05, (upcoming - now) if upcoming is not None else 0.05)))
        self._readable.close()
        self.outcomes.counts["hanging"] += len(waiting) + sum(one.is_busy for one in self._all)
        self.outcomes.seconds = end - start
        return self.outcomes

    def _is_done(self, now: float, end: float, upcoming: float | None, waiting: deque[float]) -> bool:
        if now < end or upcoming is not None:
            return False
        return (not waiting and not any(one.is_busy for one in self._all)) or now > end + _PATIENCE_SECONDS

    def _send(self, due: float) -> None:
        connection = self._free.popleft()
        call = self._calls[self._next % len(self._calls)]
        self._next += 1
        if not connection.send(call, due):
            self._fail(connection)

    def _wait(self, seconds: float) -> None:
        for broken in list(self._broken):
            if self._is_back(broken):
                self._broken.remove(broken)
                self._free.append(broken)
        if seconds > 0:
            select.select((self._readable,), (), (), seconds)
        for number, _ in self._readable.poll(0):
            connection = self._by_number[number]
            try:
                answer = connection.receive()
            except OSError:
                self._fail(connection)
                continue
            if answer is not None:
                self._note(connection, answer)

    def _note(self, connection: _Connection, answer: bytes) -> None:
        ms = 1000 * (time.perf_counter() - connection.due)
        connection.is_busy = False
        self._free.append(connection)
        self.outcomes.ms.setdefault(connection.kind, []).append(ms)
        self.outcomes.counts["answered" if answer.startswith(b"HTTP/1.1 200") else "refused"] += 1
        head = answer[:1500]
        for source, name in _SOURCES.items():
            if source in head:
                self.outcomes.counts[name] += 1
                break
        self.outcomes.counts["cached"] += b'"cached":true' in head

    def _fail(self, connection: _Connection) -> None:
        """Count a request that got no answer; whoever was hung up on between two requests lost none."""
        if connection.is_busy:
            self.outcomes.counts["failed"] += 1
        else:
            self._free.remove(connection)
        if self._is_back(connection):
            self._free.append(connection)
        else:
            self._broken.append(connection)

    def _is_back(self, connection: _Connection) -> bool:
        """Connect again; a socket that is closed leaves the poll by itself."""
        self._by_number.pop(connection.number, None)
        if not connection.reconnect():
            return False
        self._by_number[connection.fileno()] = connection
        self._readable.register(connection.fileno(), select.EPOLLIN)
        return True


def cycle_of(calls: dict[str, Sequence[bytes]], shares: dict[str, float], count: int, seed: int = 0) -> list[Call]:
    """`count` calls whose kinds are drawn by their shares; of each kind the requests come one after another."""
    drawn = np.random.default_rng(seed).choice(
        list(shares), count, p=np.array(list(shares.values())) / sum(shares.values())
    )
    after: dict[str, Iterator[int]] = {kind: iter(range(count)) for kind in shares}
    return [Call(str(kind), calls[kind][next(after[kind]) % len(calls[kind])]) for kind in drawn]
