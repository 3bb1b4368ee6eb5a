"""Which bundle is served: another one by its name within one folder, and back again, also over a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from asterism.core.bundle import MANIFEST, Bundle
from asterism.core.errors import BundleError, ConflictError, RequestError, StorageError, UnknownIdError
from asterism.serving.bundle_tables import CatalogueTable, read_catalogue
from asterism.serving.ports import EngineHandle
from asterism.stores.catalogue import Catalogue

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
        self._swapping = asyncio.Lock()
        record = _read(state)
        served = str(bundle.path.resolve())
        self._record = record if record is not None and served in (record.asked, record.current) else None
        if self._record is not None and self._record.current != served:
            self._record = None

    @property
    def bundle(self) -> Bundle:
        """The one that is served."""
        return self._bundle

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
        cannot be loaded, `ConflictError`; then everything goes on as it was. A catalogue's store that is down is told
        in the log, and gets the new items at the next start, or when the same bundle is deployed again, as is what
        could not be written down.
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
        if self._swapping.locked():
            raise ConflictError("another deploy is under way; wait until it has ended")
        async with self._swapping:
            return await asyncio.shield(self._swap(chosen()))

    async def _swap(self, path: Path) -> Deployment:
        bundle, table = await asyncio.to_thread(_read_bundle, path)
        before = self._bundle
        if bundle.version == before.version and bundle.path.resolve() == before.path.resolve():
            await asyncio.to_thread(self._catalogue.sync, table.items, table.images, bundle.version)
            if self._record is not None:
                await asyncio.to_thread(self._write_down)  # there may have been no room the first time
            return self.status()
        take_over = await asyncio.to_thread(self._prepare, bundle, table)
        try:
            await self._engine.swap(bundle)
        except BaseException:
            await asyncio.to_thread(self._write_down)  # an engine in the same folder may have noted its way and back
            raise
        take_over()
        asked = self._record.asked if self._record else str(before.path.resolve())
        self._record = Deployed(asked, str(bundle.path.resolve()), str(before.path.resolve()))
        self._bundle = bundle
        await asyncio.to_thread(self._write_down)
        try:
            await asyncio.to_thread(self._catalogue.sync, table.items, table.images, bundle.version)
        except StorageError as error:
            logger.error("%s is served, and its items are not in the catalogue yet: %s", bundle.path, error)
        return self.status()

    def _write_down(self) -> None:
        if self._record is None:
            (self._state / _RECORD).unlink(missing_ok=True)
        else:
            _write(self._state, self._record)


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
