"""A real Milvus Lite as a process of its own, spoken to over the network."""

from __future__ import annotations

from pathlib import Path

from contracts.servers import ServerProcess, connects, free_port, program

MILVUS = program("milvus-lite")


def start_milvus(folder: Path) -> tuple[ServerProcess, int]:
    """The server, and its port."""
    assert MILVUS is not None
    port = free_port()
    command = [MILVUS, "server", "--data-dir", folder / "data", "--host", "127.0.0.1", "--port", str(port)]
    return ServerProcess(command, connects(port), folder / "log.txt"), port
