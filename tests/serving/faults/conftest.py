from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.kafka_cluster import start_kafka
from contracts.postgres_server import MISSING, POSTGRES, Postgres
from contracts.redis_server import REDIS, start_redis
from contracts.servers import ServerProcess
from serving.faults.load import Line
from serving.small_market import write_bundle


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Callable[[Line], None]:
    """Put a line into the fault table, which `tests/conftest.py` prints at the end of the run."""
    return lambda line: record_property("fault", str(line))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of its own."""
    return write_bundle(tmp_path / "bundle").path


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[ServerProcess, int]]:
    """A Redis of the test's own, which it may kill."""
    if REDIS is None:
        pytest.skip("no redis-server on this machine (apt-get install redis-server)")
    server, port = start_redis(tmp_path / "redis")
    with server:
        yield server, port


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of the test's own, which it may kill."""
    if POSTGRES is None:
        pytest.skip(MISSING)
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """The process that holds the brokers, and their addresses."""
    (tmp_path / "kafka").mkdir()
    process, brokers = start_kafka(tmp_path / "kafka")
    yield process.pid, brokers
    process.communicate("", timeout=60)
