"""Bundles as trees of blobs: parts first, the manifest last, so that a bundle is there whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from asterism.core.bundle import MANIFEST, Bundle, check_target, put_in_place
from asterism.core.errors import BundleError, UnknownIdError
from asterism.core.progress import track
from asterism.stores.blobs import Blobs

_CURRENT: Final = "current"


def push_bundle(blobs: Blobs, bundle: Bundle, name: str) -> str:
    """Write a bundle under `name/version/`; returns its version. One that is there already is left alone."""
    prefix = f"{name}/{bundle.version}"
    if bundle.version in versions(blobs, name):
        return bundle.version
    for part in track(list(bundle.manifest.parts), f"pushing {name}"):
        blobs.upload(f"{prefix}/{part}", bundle.part(part))
    blobs.create(f"{prefix}/{MANIFEST}", (bundle.path / MANIFEST).read_bytes())
    return bundle.version


def pull_bundle(blobs: Blobs, name: str, version: str, target: Path) -> Bundle:
    """Read a bundle into a folder, check it, and put it in place of an older one; raises `BundleError`."""
    check_target(target)
    staging = target.with_name(f".{target.name}.pulling")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        blobs.download(f"{name}/{version}/{MANIFEST}", staging / MANIFEST)
        parts = [one.rpartition("/")[2] for one in blobs.names(f"{name}/{version}/")]
        for part in track([one for one in parts if one != MANIFEST], f"pulling {name}"):
            blobs.download(f"{name}/{version}/{part}", staging / part)
        Bundle.open(staging)
        put_in_place(staging, target)
    except UnknownIdError:
        known = ", ".join(versions(blobs, name)) or "none"
        raise BundleError(f"there is no finished bundle {name!r} of version {version!r}; there are {known}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Bundle.open(target)


def versions(blobs: Blobs, name: str) -> list[str]:
    """The versions of a bundle that are there whole."""
    tails = (one.removeprefix(f"{name}/").split("/") for one in blobs.names(f"{name}/"))
    return [tail[0] for tail in tails if len(tail) == 2 and tail[1] == MANIFEST]


def current_version(blobs: Blobs, name: str) -> str | None:
    """The version that should be served, or None where none was chosen."""
    try:
        return blobs.get(f"{name}/{_CURRENT}").data.decode()
    except UnknownIdError:
        return None


def choose_version(blobs: Blobs, name: str, version: str, instead_of: str | None) -> bool:
    """Say which version should be served, if it still is the one known to the caller; raises `BundleError`."""
    if version not in versions(blobs, name):
        raise BundleError(f"there is no finished bundle {name!r} of version {version!r}; push it first")
    if instead_of is None:
        return blobs.create(f"{name}/{_CURRENT}", version.encode())
    try:
        current = blobs.get(f"{name}/{_CURRENT}")
    except UnknownIdError:
        return False
    return current.data.decode() == instead_of and blobs.replace(f"{name}/{_CURRENT}", version.encode(), current.tag)
