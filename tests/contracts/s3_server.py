"""A real HTTP server that speaks S3."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from contracts.servers import ServerProcess, connects, free_port

HAS_S3 = importlib.util.find_spec("moto") is not None


def start_s3(folder: Path) -> tuple[ServerProcess, str]:
    """The server, and its endpoint."""
    port = free_port()
    run = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    return ServerProcess([sys.executable, "-c", run], connects(port), folder / "log.txt"), f"http://127.0.0.1:{port}"
