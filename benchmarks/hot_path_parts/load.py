"""Clients in a closed loop: raw sockets that stay open, so that the load costs less than what it measures."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length: "


def request_bytes(path: str, body: bytes) -> bytes:
    """A POST of JSON over a connection that stays open."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    sent_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)


def closed_loop(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> list[float]:
    """The latencies, in seconds, of all requests that were answered with 200; each client waits for its answer."""
    selector, taken, number = selectors.DefaultSelector(), [], 0
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, _Client(connection))
    now = time.perf_counter()
    end = now + seconds
    for key in list(selector.get_map().values()):
        number = _send(key.data, requests, number, now)
    while now < end:
        for key, _ in selector.select(1.0):
            client: _Client = key.data
            client.received += client.connection.recv(1 << 16)
            if not _is_whole(client.received):
                continue
            now = time.perf_counter()
            taken.append(now - client.sent_at)
            client.received.clear()
            number = _send(client, requests, number, now)
    for key in list(selector.get_map().values()):
        key.data.connection.close()
    selector.close()
    return taken


def _send(client: _Client, requests: Sequence[bytes], number: int, now: float) -> int:
    client.sent_at = now
    client.connection.sendall(requests[number % len(requests)])
    return number + 1


def _is_whole(received: bytearray) -> bool:
    """Whether an answer is there; raises `RuntimeError` on one that is not 200."""
    head = received.find(_END_OF_HEAD)
    if head < 0:
        return False
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server answered {bytes(received[:200])!r}")
    at = received.index(_LENGTH) + len(_LENGTH)
    return len(received) >= head + len(_END_OF_HEAD) + int(received[at : received.index(b"\r", at)])
