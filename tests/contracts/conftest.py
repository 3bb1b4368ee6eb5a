from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from asterism.config.stores import StoresConfig
from asterism.core.clock import ManualClock
from contracts.clickhouse_server import start_clickhouse
from contracts.deployment import NOW, Place
from contracts.kafka_cluster import start_kafka
from contracts.milvus_server import MILVUS, start_milvus
from contracts.postgres_server import MISSING, POSTGRES, Postgres
from contracts.redis_server import REDIS, start_cluster, start_redis
from contracts.s3_server import start_s3
from contracts.servers import ServerProcess
from serving.running import environment
from serving.small_market import write_bundle


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


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 with a bucket `asterism`; credentials are in the environment, as for any client."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server, endpoint = start_s3(tmp_path_factory.mktemp("s3"))
        with server:
            client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
            client.create_bucket(Bucket="asterism")
            client.close()
            yield endpoint


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, int]]:
    """One Milvus for all who bring a collection of their own."""
    if MILVUS is None:
        pytest.skip("no milvus-lite beside this Python (pip install 'asterism[dev]')")
    server, port = start_milvus(tmp_path_factory.mktemp("milvus"))
    with server:
        yield server, port


@pytest.fixture(scope="session")
def kafka_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three brokers for all who bring a topic of their own."""
    process, brokers = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield brokers
    process.communicate("", timeout=60)


@pytest.fixture(scope="session")
def chdb_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The one folder that the engine inside this process can have."""
    return f"chdb:{tmp_path_factory.mktemp('chdb') / 'cold'}"


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same engine behind HTTP, in another process."""
    server, port = start_clickhouse(tmp_path_factory.mktemp("clickhouse"))
    with server:
        yield f"clickhouse://127.0.0.1:{port}"


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A name of its own for what a test keeps in a shared server."""
    return f"t{zlib.crc32(request.node.nodeid.encode()):x}"


@pytest.fixture
def place(
    postgres: Postgres,
    kafka_brokers: str,
    chdb_url: str,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    if REDIS is None:
        pytest.skip("no redis-server on this machine (apt-get install redis-server)")
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    server, port = start_redis(tmp_path / "redis")
    stores = StoresConfig(
        catalogue=postgres.database(prefix),
        state=f"redis://127.0.0.1:{port}/0",
        bus=f"kafka://{kafka_brokers}/{prefix}",
        history=chdb_url,
        timeout_seconds=10.0,
    )
    with server:
        bundle = write_bundle(tmp_path / "bundle").path
        yield Place(bundle, tmp_path, stores, postgres, server, ManualClock(NOW))
