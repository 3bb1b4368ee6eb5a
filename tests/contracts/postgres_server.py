"""A real PostgreSQL on a private port and folder; as root it runs as another user, since it refuses root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from contracts.servers import ServerProcess, children_of, free_port, program

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: -float(one.parent.name))
POSTGRES = program("postgres", *_DEBIAN)
INITDB = program("initdb", *_DEBIAN)
MISSING = "no PostgreSQL server on this machine (apt-get install postgresql)"


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    return "postgres" if any(one.pw_name == "postgres" for one in pwd.getpwall()) else "nobody"


def _memory() -> str | None:
    """A file system in memory where there is room: a database is thousands of files, slow to delete from a disk."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 1 << 30 else None


class Postgres:
    """A server with one database after another."""

    def __init__(self) -> None:
        assert POSTGRES is not None
        assert INITDB is not None
        self.folder = Path(tempfile.mkdtemp(prefix="asterism-postgres-", dir=_memory()))
        user = _user()
        if user is not None:
            shutil.chown(self.folder, user)
        data = self.folder / "data"
        initdb = [INITDB, "-D", data, "-U", "asterism", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=self.folder)
        self.port = free_port()
        command = [POSTGRES, "-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder]
        command += ["-c", "fsync=off"]  # the tests kill processes; the machine, and with it what it was handed, goes on
        self.server = ServerProcess(command, self._answers, self.folder / "log.txt", user)

    def database(self, name: str) -> str:
        """The URL of a new, empty database."""
        with psycopg.connect(self._to("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://asterism@127.0.0.1:{self.port}/{name}"

    def emptied(self) -> str:
        """The URL of the database that the suites share, without a row from before."""
        url = f"postgresql+psycopg://asterism@127.0.0.1:{self.port}/shared"
        with psycopg.connect(self._to("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'shared'").fetchone()
        if known is None:
            return self.database("shared")
        with psycopg.connect(self._to("shared"), autocommit=True) as connection:
            connection.execute("TRUNCATE items, images, users, behaviours, api_keys, forgotten_users")
            connection.execute("UPDATE api_key_changes SET number = 0")
        return url

    def freeze(self) -> None:
        """Stop every process of the server where it stands."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """Backends leave the postmaster's process group, so they are found as its children."""
        postmaster = self.server.process.pid
        for pid in (postmaster, *children_of(postmaster)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """kill -9, the server and every process of its connections: while one is left, no other server can start."""
        backends = children_of(self.server.process.pid)
        self.server.kill()
        for pid in backends:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in backends):
            if time.monotonic() > deadline:
                break  # whoever is to reap them is slow; they hold nothing any more
            time.sleep(0.01)

    def remove(self) -> None:
        """End it and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> None:
        psycopg.connect(self._to("postgres")).close()

    def _to(self, name: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=asterism dbname={name} connect_timeout=30"
