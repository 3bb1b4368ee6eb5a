"""ClickHouse's HTTP interface in front of the real engine, as no current server can be installed here.

The client that speaks to it is the real one, and so is the engine that answers; what stands between is
the little of the protocol that the client uses: the query with its parameters in, Native or Arrow out.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import lz4.frame

from contracts.servers import ServerProcess, connects, free_port


def start_clickhouse(folder: Path) -> tuple[ServerProcess, int]:
    """The server, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "contracts.clickhouse_server", str(port), folder / "data"]
    return ServerProcess(
        ["env", f"PYTHONPATH={Path(__file__).parents[1]}", *command], connects(port), folder / "log.txt"
    ), port


class Handler(BaseHTTPRequestHandler):
    """One query at a time, as the engine inside a process is one session."""

    protocol_version = "HTTP/1.1"
    session: Any
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Run a query: in the URL with data in the body, or in the body."""
        asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = (
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "Content-Length" in self.headers
            else self._chunks()
        )
        try:
            if self.headers.get("Content-Encoding") == "lz4":
                body = lz4.frame.decompress(body)
            head, _, data = body.partition(b"FORMAT Native\n")
            is_insert = head.startswith(b"INSERT")
            with self.lock:
                answer = self._insert(head.decode(), data, asked) if is_insert else self._select(body.decode(), asked)
            self._answer(200, answer)
        except Exception as error:
            self._answer(500, str(error).encode())

    do_GET = do_POST

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _select(self, query: str, asked: dict[str, str]) -> bytes:
        values = {name.removeprefix("param_"): value for name, value in asked.items() if name.startswith("param_")}
        text, _, form = query.strip().rpartition("FORMAT ")
        text, form = (text, form.strip()) if text else (query, asked.get("default_format", "TabSeparated"))
        result = self.session.query(text, form, params=values)
        return bytes(result.bytes() or b"")

    def _insert(self, target: str, block: bytes, asked: dict[str, str]) -> bytes:
        limits = ", ".join(f"{name} = {value}" for name, value in asked.items() if name.startswith("max_"))
        with tempfile.NamedTemporaryFile(suffix=".native") as file:
            file.write(block)
            file.flush()
            query = f"{target} SELECT * FROM file('{file.name}', 'Native')"
            self.session.query(f"{query} SETTINGS {limits}" if limits else query)
        return b""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 200:
            self.send_header("X-ClickHouse-Exception-Code", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    from chdb.session import Session

    Handler.session = Session(sys.argv[2])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
