from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.running import Server
from serving.small_market import write_bundle


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the one server's bundle and state."""
    return tmp_path_factory.mktemp("market")


@pytest.fixture(scope="session")
def server(market: Path) -> Iterator[Server]:
    """One server for the tests that need nothing but answers; each takes users of its own."""
    folder = market
    write_bundle(folder / "bundle")
    with Server(folder / "bundle", folder / "state") as running:
        yield running


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of its own, for tests that stop, break or slow what they serve."""
    return write_bundle(tmp_path / "bundle").path
