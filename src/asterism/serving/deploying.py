"""Which bundle is served: another one by its name within one folder, and back again, also over a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from asterism.core.bundle import MANIFEST, Bundle
from asterism.core.errors import (
    AsterismError,
    BundleError,
    ConflictError,
    OverloadedError,
    RequestError,
    StorageError,
    UnknownIdError,
)
from asterism.serving.bundle_tables import CatalogueTable, read_catalogue
from asterism.serving.ports import EngineHandle
from asterism.stores.catalogue import Catalogue

T = TypeVar("T")

logger = logging.getLogger(__name__)

_RECORD: Final = "deployed.json"
#: What a bundle's folder may be called, so that no name leads elsewhere.
NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
_NAME: Final = re.compile(NAME[1:-1])


@dataclass(frozen=True, slots=True)
class Deployed:
    """What was deployed in place of the bundle that the service was started with."""

    asked: str  # the folder that it was started with
    current: str
    previous: str

    @property
    def leads_back(self) -> bool:
        """Whether what was served before is another folder: one that was replaced is gone."""
        return self.previous != self.current


class Deployment(NamedTuple):
    """What is served, and what could be."""

    version: str
    name: str
    previous: str | None  # where a rollback leads
    bundles: list[str]
    restart_needed: bool  # to begin with the histories of the served bundle


def deployed_bundle(state: Path, asked: Path) -> Path:
    """The bundle to start with: the one that was deployed last, as long as the service is started with the same one."""
    record = _read(state)
    if record is None or record.asked != str(asked.resolve()):
        return asked
    current = Path(record.current)
    if not (current / MANIFEST).is_file():
        logger.warning("%s was deployed and is gone; %s is served", current, asked)
        return asked
    return current


def note_deployed(state: Path, asked: Path, current: Path, previous: Path) -> None:
    """Write down for `deployed_bundle` what is served now, and was before; raises `StorageError`."""
    _write(state, Deployed(*(str(one.resolve()) for one in (asked, current, previous))))


def last_deployed(state: Path) -> Path | None:
    """What was deployed last, whatever the service is started with; raises `BundleError`."""
    record = _read(state)
    return None if record is None else Path(record.current)


class Deployer:
    """Swaps the bundle of a running service; for one event loop."""

    def __init__(
        self,
        bundle: Bundle,
        engine: EngineHandle,
        catalogue: Catalogue,
        state: Path,
        folder: Path | None = None,
        prepare: Callable[[Bundle, CatalogueTable], Callable[[], None]] = lambda bundle, table: lambda: None,
    ) -> None:
        """`folder` holds the bundles that may be deployed: by default the one where the served bundle lies.

        `prepare` reads what else of a bundle is served, in a thread, and gives what puts it in place.
        """
        self._started_with = self._bundle = bundle
        self._engine = engine
        self._catalogue = catalogue
        self._state = state
        self._folder = (folder or bundle.path.resolve().parent).resolve()
        self._prepare = prepare
        self._change_under_way: asyncio.Task[Deployment] | None = None
        self._step: asyncio.Future[Any] | None = None  # of that change, which a stop cuts off
        self._is_stopping = False
        record = _read(state)
        served = str(bundle.path.resolve())
        self._record = record if record is not None and served in (record.asked, record.current) else None
        if self._record is not None and self._record.current != served:
            self._record = None

    @property
    def bundle(self) -> Bundle:
        """The one that is served."""
        return self._bundle

    def give_up(self) -> None:
        """Begin no deploy any more, and leave one under way undone, unless the engine has swapped already."""
        self._is_stopping = True
        if self._step is not None:
            self._step.cancel()

    async def stop(self) -> None:
        """Give up, and return once nothing is under way."""
        self.give_up()
        if self._change_under_way is not None:
            await asyncio.wait({self._change_under_way})

    def status(self) -> Deployment:
        """What is served, and what could be."""
        return Deployment(
            version=self._bundle.version,
            name=self._bundle.path.resolve().name,
            previous=Path(self._record.previous).name if self._record and self._record.leads_back else None,
            bundles=self._deployable(),
            restart_needed=self._bundle.version != self._started_with.version,
        )

    async def deploy(self, name: str) -> Deployment:
        """Serve a bundle by its name; returns once it answers.

        Raises `RequestError` on a name that is none, `UnknownIdError`, `BundleError`, `ModelError` where its model
        cannot be loaded, `ConflictError`, and `OverloadedError` where the service is stopped; then everything goes on
        as it was. A catalogue's store that is down is told in the log, and gets the new items at the next start, or
        when the same bundle is deployed again: as is what could not be written down, which raises `StorageError`, and
        an engine that serves another one.
        """
        return await self._change(lambda: self._path_of(name))

    async def rollback(self) -> Deployment:
        """Serve what was served before; raises as `deploy`, and `ConflictError` where nothing was deployed."""
        if self._record is None:
            raise ConflictError("nothing was deployed since the start, so there is nothing to go back to")
        if not self._record.leads_back:
            raise ConflictError(
                f"{self._bundle.path.name} was replaced in its own folder, so what was served before is gone; "
                "deploy another bundle by its name"
            )
        return await self._change(lambda: Path(self._record.previous) if self._record else self._bundle.path)

    def _deployable(self) -> list[str]:
        try:
            return sorted(path.name for path in self._folder.iterdir() if self._holds_bundle(path))
        except OSError:  # what is served is served all the same
            return []

    def _holds_bundle(self, path: Path) -> bool:
        try:
            is_bundle = (path / MANIFEST).is_file()
        except OSError:  # a folder of somebody else's, as the `lost+found` of a disk is
            return False
        return is_bundle and _NAME.fullmatch(path.name) is not None and path.resolve().parent == self._folder

    def _path_of(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise RequestError(f"{name!r} is no name of a bundle; give that of a folder in {self._folder.name}/")
        path = self._folder / name
        if not self._holds_bundle(path):
            raise UnknownIdError(f"there is no bundle {name!r}; GET /admin/api/v1/model lists those there are")
        return path

    async def _change(self, chosen: Callable[[], Path]) -> Deployment:
        if self._is_stopping:
            raise OverloadedError("the service is being stopped and deploys nothing any more; deploy once it is back")
        if self._change_under_way is not None and not self._change_under_way.done():
            raise ConflictError("another deploy is under way; wait until it has ended")
        self._change_under_way = change = asyncio.create_task(self._swap(chosen()), name="deploy")
        change.add_done_callback(_tell_failure)  # whoever asked may have gone
        return await asyncio.shield(change)

    async def _swap(self, path: Path) -> Deployment:
        bundle, table = await self._unless_stopped(asyncio.to_thread(_read_bundle, path))
        before = self._bundle
        if bundle.version == before.version and bundle.path.resolve() == before.path.resolve():
            return await self._put_right(bundle, table)
        take_over = await self._unless_stopped(asyncio.to_thread(self._prepare, bundle, table))
        await self._unless_stopped(self._swap_engine(bundle))
        take_over()
        asked = self._record.asked if self._record else str(before.path.resolve())
        self._record = Deployed(asked, str(bundle.path.resolve()), str(before.path.resolve()))
        self._bundle = bundle
        try:
            await asyncio.to_thread(self._write_down)
        finally:
            await self._bring_items(bundle, table)
        return self.status()

    async def _put_right(self, bundle: Bundle, table: CatalogueTable) -> Deployment:
        """What may have failed when the served bundle was deployed, and an engine that serves another one since."""
        try:
            await self._unless_stopped(self._engine.swap(bundle))
        finally:
            if self._record is not None:
                await asyncio.to_thread(self._write_down)
        await asyncio.to_thread(self._catalogue.sync, table.items, table.images, bundle.version)
        return self.status()

    async def _swap_engine(self, bundle: Bundle) -> None:
        try:
            await self._engine.swap(bundle)
        except Exception:
            try:  # an engine in the same folder may have noted its way and back
                await asyncio.to_thread(self._write_down)
            except StorageError as error:
                logger.error("%s", error)
            raise

    async def _bring_items(self, bundle: Bundle, table: CatalogueTable) -> None:
        try:
            await asyncio.to_thread(self._catalogue.sync, table.items, table.images, bundle.version)
        except StorageError as error:
            logger.error("%s is served, and its items are not in the catalogue yet: %s", bundle.path, error)

    async def _unless_stopped(self, step: Coroutine[Any, Any, T]) -> T:
        """A step of a change that a stop cuts off; raises `OverloadedError` where it did."""
        self._step = task = asyncio.ensure_future(step)
        if self._is_stopping:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            raise OverloadedError("the service was stopped before the deploy had ended; deploy it again") from None
        finally:
            self._step = None

    def _write_down(self) -> None:
        if self._record is not None:
            _write(self._state, self._record)
        else:
            _remove(self._state)


def _tell_failure(change: asyncio.Task[Deployment]) -> None:
    error = None if change.cancelled() else change.exception()
    if isinstance(error, AsterismError):
        logger.warning("a deploy ended with an error: %s", error)
    elif error is not None:
        logger.error("a deploy ended with an error", exc_info=error)


def _read_bundle(path: Path) -> tuple[Bundle, CatalogueTable]:
    bundle = Bundle.open(path)
    return bundle, read_catalogue(bundle)


def _read(state: Path) -> Deployed | None:
    file = state / _RECORD
    if not file.is_file():
        return None
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Deployed(**raw)
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{file} cannot be read ({error}); delete it to serve the bundle that is named") from error


def _write(state: Path, record: Deployed) -> None:
    staged = state / f"{_RECORD}.writing"
    try:
        state.mkdir(parents=True, exist_ok=True)
        with staged.open("w", encoding="utf-8") as stream:
            json.dump(asdict(record), stream)
            stream.flush()
            os.fsync(stream.fileno())
        staged.replace(state / _RECORD)
    except OSError as error:
        raise StorageError(f"{staged} cannot be written ({error}); the bundle is served until a restart") from error


def _remove(state: Path) -> None:
    try:
        (state / _RECORD).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{state / _RECORD} cannot be deleted ({error}); a restart serves what it names") from error
