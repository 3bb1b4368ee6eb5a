"""Deployments' files: every URL of a known kind, every key known, no password told."""

from __future__ import annotations

from pathlib import Path

import pytest

from asterism.config.stores import DeploymentConfig, StoresConfig, load_deployment
from asterism.core.errors import ConfigError

DEPLOYMENTS = Path(__file__).parents[2] / "configs" / "deployments"


def test_every_shipped_deployment_is_read_and_the_smallest_is_the_default() -> None:
    files = sorted(DEPLOYMENTS.glob("*.toml"))
    assert [file.stem for file in files] == ["cluster", "laptop"]
    cluster, laptop = map(load_deployment, files)
    assert laptop == DeploymentConfig()
    assert all(getattr(cluster.stores, name) != getattr(laptop.stores, name) for name in ("catalogue", "state", "bus"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[stores]\nstat = 'memory'", "`stores.stat` is not a key; did you mean `state`"),
        ("[stores]\nstate = 'memcached://x'", "`stores.state`: give one of memory, redis://"),
        ("[stores]\nstate = 'memory2'", "`stores.state`: give one of memory"),
        ("[stores]\nvectors = 'faiss'", "`stores.vectors`: give one of exact, milvus://"),
        ("[stores]\ntimeout_seconds = 0", "`stores.timeout_seconds`"),
        ("store = 1", "`store` is not a key; did you mean `stores`"),
        ("[stores", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_allowed(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_deployment(file)
    assert str(raised.value).startswith(str(file))
    assert reason in str(raised.value)


@pytest.mark.parametrize("place", ["ada:secret@host:notaport/x", "host:99999", "[::1/x", "host:1:2", "a:1,b:two"])
@pytest.mark.parametrize("store", ["catalogue = 'postgresql://", "state = 'redis://", "history = 'clickhouse://"])
def test_a_host_that_cannot_be_read_is_refused_before_anything_starts(tmp_path: Path, store: str, place: str) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text(f"[stores]\n{store}{place}'")
    with pytest.raises(ConfigError, match=r"its host cannot be read; write it like host:5432") as raised:
        load_deployment(file)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "given",
    [
        {"catalogue": "postgresql://ada:se/c[r:e?t@host/db"},
        {"catalogue": "postgresql://"},
        {"catalogue": "sqlite:////a@[b]:c/catalogue.db"},
        {"state": "redis+cluster://h1:7000,h2:7001?prefix=x"},
        {"state": "rediss://:pass@[::1]:6379/0"},
        {"blobs": "s3://bucket/p@x?endpoint=http://minio:9000"},
        {"blobs": "s3://bucket/p?endpoint=http://minio:9000/x@y:z"},
        {"state": "redis://h:6379/0?prefix=a@b:c:d"},
        {"catalogue": "postgresql://[fe80::1%25eth0]:5432/db"},
    ],
)
def test_hosts_are_found_beside_whatever_stands_around_them(given: dict[str, str]) -> None:
    assert StoresConfig.model_validate(given).model_dump(include=set(given)) == given


def test_a_password_in_a_wrong_url_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "deployment.toml"
    file.write_text("[stores]\nstate = 'postgres://ada:secret@host'")
    with pytest.raises(ConfigError) as raised:
        load_deployment(file)
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_deployment(tmp_path / "none.toml")


def test_the_default_urls_need_no_server() -> None:
    assert not [url for url in StoresConfig().model_dump(exclude={"timeout_seconds"}).values() if "@" in url]
