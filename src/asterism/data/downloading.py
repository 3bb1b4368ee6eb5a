"""Fetches a public data set: resumable, verified, safely unpacked."""

from __future__ import annotations

import hashlib
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asterism.core.errors import ConfigError, DataError
from asterism.core.hashing import hash_file
from asterism.core.progress import track

_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 30.0

Hex = Annotated[str, Field(pattern="^[0-9a-f]+$")]


class DownloadFile(BaseModel):
    """One file of a public data set; without a known checksum it cannot be verified, only recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    sha256: Hex | None = None
    md5: Hex | None = None

    @property
    def name(self) -> str:
        """The file's name on disk."""
        return PurePosixPath(httpx.URL(self.url).path).name


class DownloadEntry(BaseModel):
    """A public data set as the catalogue names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    homepage: str
    terms: str
    format: str
    folder: str = "."  # where the data lie once unpacked
    files: tuple[DownloadFile, ...]


class Downloaded(BaseModel):
    """One fetched file: its hash, and whether the catalogue vouches for it."""

    model_config = ConfigDict(frozen=True)

    path: Path
    sha256: str
    verified: bool


def read_catalogue(folder: Path) -> dict[str, DownloadEntry]:
    """Read every `*.toml` of a catalogue; raises `ConfigError` naming the file that is wrong."""
    entries = {}
    for file in sorted(folder.glob("*.toml")):
        try:
            entry = DownloadEntry.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
            raise ConfigError(f"{file} does not describe a data set: {error}") from error
        entries[entry.name] = entry
    return entries


def download(entry: DownloadEntry, folder: Path) -> list[Downloaded]:
    """Fetch, verify and unpack all files of a data set into a folder; raises `DataError`."""
    folder.mkdir(parents=True, exist_ok=True)
    fetched = [fetch(file, folder) for file in entry.files]
    for one in fetched:
        if one.path.suffix == ".zip":
            unpack(one.path, folder)
    return fetched


def fetch(file: DownloadFile, folder: Path) -> Downloaded:
    """Fetch one file; what an interrupted fetch left in `<name>.part` is continued where the server allows.

    Raises `DataError` where the server refuses, the connection breaks or the checksum differs.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if not target.exists():
        try:
            _receive(file.url, part)
        except httpx.HTTPError as error:
            kept = part.stat().st_size if part.exists() else 0
            raise DataError(
                f"the download broke off ({type(error).__name__}: {error}); "
                f"run the command again, it goes on after the {kept} bytes that are there",
                file=file.url,
            ) from error
        _verify(file, part)
        part.rename(target)
    return Downloaded(path=target, sha256=hash_file(target), verified=_verify(file, target))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive; raises `DataError`, before writing anything, where a member would leave the folder."""
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
            root = folder.resolve()
            for member in members:
                if not (root / member.filename).resolve().is_relative_to(root) or "\\" in member.filename:
                    raise DataError(f"the archive's member {member.filename!r} leaves the folder", file=str(archive))
            for member in track(members, f"unpacking {archive.name}"):
                content.extract(member, folder)
    except zipfile.BadZipFile as error:
        raise DataError(f"this is not a whole zip archive ({error}); delete it and try again", file=str(archive)) from (
            error
        )


def _receive(url: str, part: Path) -> None:
    """Append what is missing to the part file, or write it anew where the server cannot go on in the middle."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_SECONDS) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have == _whole_length(answer):
            return
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise DataError("what was fetched before does not fit the file; run the command again", file=url)
        if answer.is_error:
            reason = f"the server answered {answer.status_code} {answer.reason_phrase}; check the address"
            raise DataError(reason, file=url)
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        length = int(answer.headers.get("Content-Length", 0))
        with part.open("ab" if goes_on else "wb") as stream:
            total = -(-length // _CHUNK_BYTES) if length else None
            for chunk in track(_chunks(answer), f"fetching {part.stem} (256 KiB blocks)", total):
                stream.write(chunk)


def _chunks(answer: httpx.Response) -> Iterator[bytes]:
    """The body as it was sent: no content decoding, so that bytes on disk and ranges agree."""
    yield from answer.iter_raw(_CHUNK_BYTES)


def _whole_length(answer: httpx.Response) -> int | None:
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(whole) if whole.isdigit() else None


def _verify(file: DownloadFile, path: Path) -> bool:
    """Whether a checksum is known and right; a wrong one deletes the file and raises `DataError`."""
    for expected, method in ((file.sha256, "sha256"), (file.md5, "md5")):
        if expected is None:
            continue
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, method).hexdigest()
        if found != expected:
            path.unlink()
            raise DataError(
                f"the {method} is {found}, the catalogue says {expected}; the file was deleted, fetch it again, and "
                "if it differs again the publisher has changed it",
                file=file.url,
            )
    return file.sha256 is not None or file.md5 is not None
