"""One small market and one small trained bundle for all tests of the whole line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asterism.data.market import Market, MarketConfig
from command_line import TINY_CONFIG, run


@pytest.fixture(scope="session", autouse=True)
def _without_a_gpu() -> Iterator[None]:
    """Two processes have no two devices everywhere, and one and two are compared; devices have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulated market and a configuration for it."""
    folder = tmp_path_factory.mktemp("workshop")
    Market.generate(MarketConfig(users=150, items=110, days=20)).save(folder / "market")
    (folder / "tiny.toml").write_text(TINY_CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def bundle(workshop: Path) -> Path:
    """The bundle of an undisturbed training run."""
    done = run("train", "--config", workshop / "tiny.toml", "--output", workshop / "bundle")
    assert done.returncode == 0, done.stderr
    return workshop / "bundle"
