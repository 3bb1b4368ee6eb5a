"""The blob port: named files, written whole or not at all, and only over what one has seen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from asterism.core.errors import DataError, StorageError, UnknownIdError
from asterism.core.hashing import hash_file


class Blob(NamedTuple):
    """A blob's bytes, and the tag that changes with them."""

    data: bytes
    tag: str


class Blobs(Protocol):
    """Blobs by name, `/` between folders; every method may be called from any thread."""

    def put(self, name: str, data: bytes) -> None:
        """Write a blob, over whatever was there."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a blob where there is none; of several writers one gets True."""
        ...

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        """Write a blob if it is still the one with this tag; of several writers one gets True."""
        ...

    def get(self, name: str) -> Blob:
        """A blob; raises `UnknownIdError`."""
        ...

    def upload(self, name: str, file: Path) -> None:
        """Write a file of any size as a blob."""
        ...

    def download(self, name: str, file: Path) -> None:
        """Write a blob of any size to a file; raises `UnknownIdError`."""
        ...

    def names(self, prefix: str = "") -> Iterator[str]:
        """All names that begin so, in order."""
        ...

    def delete(self, name: str) -> None:
        """Forget a blob, whether it was there or not."""
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...


MAX_NAME_BYTES: Final = 900  # S3 takes 1024, of which a prefix needs some


def checked_name(name: str) -> str:
    """The name, if every store can keep it; raises `DataError`."""
    parts = name.split("/")
    if any(part in {"", ".", ".."} or len(part.encode(errors="replace")) > 255 for part in parts) or (
        not name.isprintable() or "\\" in name or len(name.encode(errors="replace")) > MAX_NAME_BYTES
    ):
        raise DataError(f"{name[:100]!r} cannot name a blob; use short plain words with `/` between them")
    if any(part.startswith(_HIDDEN) for part in parts):
        raise DataError(f"{name!r} begins with {_HIDDEN!r}, which is kept for what is being written")
    return name


_HIDDEN: Final = ".writing"


class LocalBlobs:
    """Implements `Blobs` as files of a folder, for many processes of one machine."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where there is none; raises `StorageError`."""
        self._folder = folder
        with self._telling():
            folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        """See `Blobs.put`."""
        with self._locked(), self._staged(data) as staged:
            staged.rename(self._place(name))

    def create(self, name: str, data: bytes) -> bool:
        """See `Blobs.create`."""
        with self._locked(), self._staged(data) as staged:
            place = self._place(name)
            if place.exists():
                return False
            staged.rename(place)
            return True

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        """See `Blobs.replace`."""
        with self._locked(), self._staged(data) as staged:
            place = self._folder / checked_name(name)
            if not place.is_file() or hash_file(place) != tag:
                return False
            staged.rename(place)
            return True

    def get(self, name: str) -> Blob:
        """See `Blobs.get`."""
        with self._locked(), self._telling(name):
            place = self._folder / checked_name(name)
            return Blob(place.read_bytes(), hash_file(place))

    def upload(self, name: str, file: Path) -> None:
        """See `Blobs.upload`."""
        with self._locked(), self._staged(file) as staged:
            staged.rename(self._place(name))

    def download(self, name: str, file: Path) -> None:
        """See `Blobs.download`."""
        with self._telling(name):
            shutil.copyfile(self._folder / checked_name(name), file)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See `Blobs.names`."""
        files = (path for path in self._folder.rglob("*") if path.is_file() and not path.name.startswith(_HIDDEN))
        yield from sorted(
            name for name in (path.relative_to(self._folder).as_posix() for path in files) if name.startswith(prefix)
        )

    def delete(self, name: str) -> None:
        """See `Blobs.delete`."""
        with self._locked(), self._telling():
            (self._folder / checked_name(name)).unlink(missing_ok=True)

    def close(self) -> None:
        """See `Blobs.close`."""

    def _place(self, name: str) -> Path:
        place = self._folder / checked_name(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    @contextlib.contextmanager
    def _telling(self, name: str | None = None) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if name is not None:
                raise UnknownIdError(f"there is no blob {name!r} in {self._folder}") from None
            raise StorageError(f"{self._folder} cannot be used ({error}); name another place") from error
        except OSError as error:
            raise StorageError(f"{self._folder} cannot be used ({error}); make room, or name another place") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, of all processes: a check and the write that follows belong together."""
        with self._telling(), (self._folder / f"{_HIDDEN}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _staged(self, content: bytes | Path) -> Iterator[Path]:
        """The content, on the disk, under a name that nobody reads."""
        descriptor, name = tempfile.mkstemp(prefix=_HIDDEN, dir=self._folder)
        staged = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                if isinstance(content, bytes):
                    stream.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, stream)
                stream.flush()
                os.fsync(stream.fileno())
            yield staged
        finally:
            staged.unlink(missing_ok=True)
