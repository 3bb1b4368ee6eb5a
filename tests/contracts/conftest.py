from __future__ import annotations

import zlib
from collections.abc import Iterator

import boto3
import pytest

from contracts.postgres_server import MISSING, POSTGRES, Postgres
from contracts.redis_server import REDIS, start_cluster, start_redis
from contracts.s3_server import start_s3


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


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A name of its own for what a test keeps in a shared server."""
    return f"t{zlib.crc32(request.node.nodeid.encode()):x}"
