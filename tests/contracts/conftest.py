from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from contracts.postgres_server import MISSING, POSTGRES, Postgres
from contracts.redis_server import REDIS, start_cluster, start_redis


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Redis for all who bring a prefix of their own."""
    if REDIS is None:
        pytest.skip("no redis-server on this machine (apt-get install redis-server)")
    server, port = start_redis(tmp_path_factory.mktemp("redis"))
    with server:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis cluster of two nodes."""
    if REDIS is None:
        pytest.skip("no redis-server on this machine (apt-get install redis-server)")
    servers, port = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield f"redis+cluster://127.0.0.1:{port}"
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all who make a database of their own."""
    if POSTGRES is None:
        pytest.skip(MISSING)
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A name of its own for what a test keeps in a shared server."""
    return f"t{zlib.crc32(request.node.nodeid.encode()):x}"
