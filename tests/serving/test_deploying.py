"""A deploy that meets another one, a stop, a full disk or a bundle that goes away."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from asterism.core.bundle import Bundle
from asterism.core.errors import BundleError, ConflictError, ModelError, OverloadedError, StorageError
from asterism.serving.deploying import Deployer, Deployment, deployed_bundle
from serving.small_market import write_bundle


@dataclass
class HeldEngine:
    """Swaps once it may, unless it is given up before."""

    served: Bundle
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)
    may_swap: asyncio.Event = field(default_factory=asyncio.Event)
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def swap(self, bundle: Bundle) -> None:
        self.asked.append(bundle.path.name)
        self.is_asked.set()
        await self.may_swap.wait()
        if self.error is not None:
            raise self.error
        self.served = bundle


@dataclass
class Items:
    """A catalogue that tells whose items it was given."""

    of: list[str] = field(default_factory=list)

    def sync(self, items: object, images: object, version: str) -> None:
        self.of.append(version)


@dataclass
class Place:
    """A deployer of bundles `a` and `b`, and what is around it."""

    folder: Path

    def __post_init__(self) -> None:
        self.a, self.b = (write_bundle(self.folder / name, brand=name) for name in ("a", "b"))
        self.state = self.folder / "state"
        self.engine, self.items = HeldEngine(self.a), Items()
        self.deployer = Deployer(self.a, self.engine, self.items, self.state)  # type: ignore[arg-type]

    @property
    def served(self) -> tuple[str, str, str]:
        """What the deployer, the engine and a restart serve."""
        after = deployed_bundle(self.state, self.a.path)
        return self.deployer.bundle.path.name, self.engine.served.path.name, after.name

    async def begun(self, name: str) -> asyncio.Task[Deployment]:
        """A deploy for which the engine loads."""
        deploying = asyncio.create_task(self.deployer.deploy(name))
        await self.engine.is_asked.wait()
        return deploying

    def fill_disk(self) -> None:
        (self.state / "deployed.json.writing").mkdir(parents=True)

    def free_disk(self) -> None:
        (self.state / "deployed.json.writing").rmdir()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_there_is_one_deploy_at_a_time_also_where_whoever_asked_has_gone(place: Place) -> None:
    async def work() -> None:
        deploying = await place.begun("b")
        deploying.cancel()
        await asyncio.wait({deploying})
        for another in (place.deployer.deploy("a"), place.deployer.deploy("b")):
            with pytest.raises(ConflictError, match="another deploy is under way"):
                await another
        with pytest.raises(ConflictError, match="nothing was deployed since the start"):
            await place.deployer.rollback()
        place.engine.may_swap.set()
        while place.deployer.bundle is place.a:
            await asyncio.sleep(0.001)
        while len(place.items.of) < 1:
            await asyncio.sleep(0.001)
        assert place.engine.asked == ["b"]
        assert place.served == ("b", "b", "b"), "it went on to its end"

    asyncio.run(work())


def test_a_stop_leaves_a_deploy_undone_and_begins_none(place: Place) -> None:
    async def work() -> None:
        deploying = await place.begun("b")
        await place.deployer.stop()
        with pytest.raises(OverloadedError, match="the service was stopped before the deploy had ended"):
            await deploying
        with pytest.raises(OverloadedError, match="is being stopped and deploys nothing any more"):
            await place.deployer.deploy("b")
        assert place.served == ("a", "a", "a")
        assert place.items.of == []

    asyncio.run(work())


def test_a_stop_ends_a_deploy_whose_bundle_the_engine_serves_already(place: Place) -> None:
    async def work() -> None:
        deploying = await place.begun("b")
        place.engine.may_swap.set()
        while place.engine.served is place.a:
            await asyncio.sleep(0)
        await place.deployer.stop()
        assert (await deploying).name == "b"
        assert (place.served, place.items.of) == (("b", "b", "b"), [place.b.version])

    asyncio.run(work())


def test_a_full_disk_keeps_what_went_wrong_and_what_was_served_to_be_told(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        place.engine.may_swap.set()
        place.fill_disk()
        with pytest.raises(StorageError, match="the bundle is served until a restart"):
            await place.deployer.deploy("b")
        assert place.served == ("b", "b", "a")
        assert place.items.of == [place.b.version], "there may be room elsewhere"
        place.engine.error = ModelError("it does not fit")
        with pytest.raises(ModelError, match="it does not fit"):
            await place.deployer.deploy("a")
        assert "cannot be written" in caplog.text
        place.free_disk()
        place.engine.error = None
        await place.deployer.deploy("b")
        assert place.served == ("b", "b", "b")

    asyncio.run(work())


def test_the_served_bundle_is_deployed_again_to_an_engine_that_serves_another_one(place: Place) -> None:
    async def work() -> None:
        place.engine.may_swap.set()
        await place.deployer.deploy("b")
        place.engine.served = place.a  # it was started again while the deploy was not written down
        await place.deployer.deploy("b")
        assert place.served == ("b", "b", "b")
        assert place.deployer.status().previous == "a"

    asyncio.run(work())


@pytest.mark.parametrize("part", ["manifest.json", "items.parquet", "item_vectors.safetensors", ""])
def test_a_bundle_that_goes_away_is_not_deployed(place: Place, part: str) -> None:
    async def work() -> None:
        place.engine.may_swap.set()
        await place.deployer.deploy("b")
        if part:
            (place.a.path / part).unlink()
        else:
            shutil.rmtree(place.a.path)
        with pytest.raises(BundleError):
            await place.deployer.rollback()
        assert (place.deployer.bundle.path.name, place.engine.served.path.name) == ("b", "b")

    asyncio.run(work())
