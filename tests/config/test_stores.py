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
