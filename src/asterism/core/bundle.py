"""The bundle: a trained recommender as a directory whose manifest, written last, vouches for every part."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asterism.core.errors import BundleError, StorageError
from asterism.core.hashing import hash_file

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a bundle as the manifest knows it."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle holds: its parts, and the facts on which all of them must agree."""

    version: str
    created_at: str
    parts: dict[str, Part]
    facts: dict[str, Any] = field(default_factory=dict)


class BundleWriter:
    """Collects parts in a hidden folder beside the target; `commit` makes the bundle appear whole.

    >>> writer = BundleWriter(Path("runs/beauty"))            # doctest: +SKIP
    >>> writer.part("model.json").write_text("{}")            # doctest: +SKIP
    >>> writer.commit(facts={"items": 12101})                 # doctest: +SKIP
    """

    def __init__(self, target: Path) -> None:
        check_target(target)
        self.target = target
        self._staging = target.with_name(f".{target.name}.writing")
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(parents=True)

    def part(self, name: str) -> Path:
        """The path at which to write a part; raises `BundleError` on a name that leaves the bundle."""
        if name in {MANIFEST, "", ".", ".."} or Path(name).name != name:
            raise BundleError(f"{name!r} cannot be a part of a bundle; use a plain file name")
        return self._staging / name

    def folder(self, name: str) -> Path:
        """A new folder whose files are parts, each by its path; raises `BundleError` as `part` does."""
        folder = self.part(name)
        folder.mkdir()
        return folder

    def commit(self, facts: dict[str, Any]) -> Bundle:
        """Hash the parts, write the manifest last, and put the bundle in place of an older one."""
        files = sorted(path for path in self._staging.rglob("*") if path.is_file())
        names = [path.relative_to(self._staging).as_posix() for path in files]
        parts = {name: Part(hash_file(path), path.stat().st_size) for name, path in zip(names, files, strict=True)}
        version = hash_parts(parts)
        manifest = {
            "format": FORMAT_VERSION,
            "version": version,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "facts": facts,
            "parts": {name: {"sha256": part.sha256, "bytes": part.bytes} for name, part in parts.items()},
        }
        text = json.dumps(manifest, indent=2, sort_keys=True)
        with (self._staging / MANIFEST).open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        put_in_place(self._staging, self.target)
        return Bundle.open(self.target)


def put_in_place(staging: Path, target: Path) -> None:
    """Make a finished folder appear whole as the target, in place of an older bundle."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose parts were found to be the ones its manifest names."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Check and open a bundle; raises `BundleError` naming the part and the reason."""
        try:
            manifest = _read_manifest(path)
            for name, part in manifest.parts.items():
                _check_part(path / name, part)
        except OSError as error:
            raise BundleError(
                f"{error.filename or path} cannot be read ({error.strerror}); let this user read it, or copy it again"
            ) from error
        return cls(path, manifest)

    @property
    def version(self) -> str:
        """A hash of all parts: equal versions hold equal recommenders."""
        return self.manifest.version

    def part(self, name: str) -> Path:
        """The path of a part; raises `BundleError` where the manifest does not list it."""
        if name not in self.manifest.parts:
            raise BundleError(f"{self.path}: the bundle has no part {name!r}; it has {', '.join(self.manifest.parts)}")
        return self.path / name

    def folder(self, name: str) -> Path:
        """The path of a folder of parts; raises `BundleError` where the manifest lists no file in it."""
        if not any(part.startswith(f"{name}/") for part in self.manifest.parts):
            raise BundleError(
                f"{self.path}: the bundle has no folder {name!r}; it has {', '.join(self.manifest.parts)}"
            )
        return self.path / name

    def has_part(self, name: str) -> bool:
        """Whether the manifest lists a part."""
        return name in self.manifest.parts

    def fact(self, name: str) -> Any:
        """A fact that all parts agree on; raises `BundleError` where the manifest does not state it."""
        if name not in self.manifest.facts:
            raise BundleError(f"{self.path}: the manifest does not state {name!r}; train the bundle again")
        return self.manifest.facts[name]

    def check_fact(self, part: str, name: str, found: Any) -> None:
        """Raise `BundleError` if what a part says differs from what the manifest says."""
        stated = self.fact(name)
        if stated != found:
            raise BundleError(
                f"{self.path}: {part} does not belong to this bundle: "
                f"its {name} is {found!r}, the manifest says {stated!r}"
            )


def check_target(target: Path) -> None:
    """Make sure that a bundle may be put here: nothing but an older bundle or an empty folder would be replaced.

    Raises `BundleError` where something else is there, `StorageError` where no folder can be made.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = not target.exists() or (target.is_dir() and (_is_bundle(target) or not any(target.iterdir())))
    except OSError as error:
        raise StorageError(f"{target} cannot be written to ({error.strerror}); name another place") from error
    if not free:
        raise BundleError(
            f"{target} exists and is no bundle, and a bundle put there would replace it; name another place"
        )


def _is_bundle(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"format", "parts", "facts"} <= manifest.keys()


def hash_parts(parts: dict[str, Part]) -> str:
    """A short version string over names and hashes of parts."""
    joined = "\n".join(f"{name} {part.sha256}" for name, part in sorted(parts.items()))
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        why = "there is no such folder" if not path.is_dir() else f"{MANIFEST} is missing, so it was never finished"
        raise BundleError(f"{path} is not a bundle: {why}; make one with `asterism train`")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT_VERSION:
            raise BundleError(f"{file}: format {raw['format']} is not {FORMAT_VERSION}, the one this version reads")
        parts = {name: Part(**one) for name, one in raw["parts"].items()}
        datetime.fromisoformat(raw["created_at"])  # whoever tells its age relies on it
        return Manifest(raw["version"], raw["created_at"], parts, {**raw["facts"]})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{file} cannot be read ({error!r}); copy the bundle again or train it anew") from error


def _check_part(file: Path, part: Part) -> None:
    if not file.is_file():
        raise BundleError(f"{file} is missing; copy the bundle again or train it anew")
    found = file.stat().st_size
    if found != part.bytes:
        raise BundleError(
            f"{file} has {found} bytes, the manifest says {part.bytes}; the copy was cut short or changed"
        )
    if hash_file(file) != part.sha256:
        raise BundleError(f"{file} was changed after the bundle was written (its hash differs from the manifest's)")
