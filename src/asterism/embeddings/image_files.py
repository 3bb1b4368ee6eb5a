"""The bytes behind the `image` column, and what is said about those that give no picture."""

from __future__ import annotations

import hashlib
import warnings
from base64 import b64decode
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote_to_bytes

from asterism.core.progress import track

_ADDRESSES = ("http://", "https://", "ftp://", "//")
_SNIFFED_BYTES = 512
_NAME_CHARACTERS = 120  # of a path, or of the start of a `data:` URI


class Refusal(StrEnum):
    """Why an item's image cannot be read, and what to do."""

    DRAWING = "SVG drawings, which Pillow cannot draw; give PNG, JPEG or WebP"
    ADDRESS = "web addresses, which are not fetched; download the images and give their paths"
    UNREADABLE = "missing, cut off or no images; check the files"


class ImageWarning(UserWarning):
    """Some items have an image that cannot be read; they are embedded by their other parts."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that has not been decoded yet."""

    name: str
    source: Path | bytes

    def content(self) -> bytes:
        """The bytes as they are stored; raises `OSError` where the file is gone."""
        return self.source.read_bytes() if isinstance(self.source, Path) else self.source


@dataclass(slots=True)
class FoundImages:
    """Each item's image by the hash of its bytes, and the images under those hashes."""

    digests: list[str | None] = field(default_factory=list)  # per item; None where it has none to read
    images: dict[str, StoredImage] = field(default_factory=dict)
    refused: dict[Refusal, list[str]] = field(default_factory=lambda: defaultdict(list))

    def refuse(self, reason: Refusal, name: str) -> None:
        """Remember that an image gave no picture."""
        self.refused[reason].append(name)


def find_images(values: Sequence[str | None], folder: Path) -> FoundImages:
    """Look up paths (relative ones in `folder`) and `data:` URIs; what cannot be read is refused, not raised."""
    found = FoundImages()
    for value in track(values, "reading images"):
        found.digests.append(_find(value.strip(), folder, found) if value and value.strip() else None)
    return found


def warn_of_refused(refused: Mapping[Refusal, Sequence[str]], items: int) -> None:
    """One `ImageWarning` that counts the images without a picture, by reason, and names the first of each."""
    if refused:
        count = sum(map(len, refused.values()))
        reasons = "; ".join(f"{len(names):,} (first: {names[0]}) are {reason}" for reason, names in refused.items())
        warnings.warn(f"{count:,} of {items:,} items have an image that gives no vector: {reasons}", ImageWarning, 2)


class _UnusableError(Exception):
    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason)
        self.reason = reason


def _find(value: str, folder: Path, found: FoundImages) -> str | None:
    """The hash of an image's bytes, or None once it is refused."""
    try:
        image, digest = _look_up(value, folder)
    except _UnusableError as error:
        found.refuse(error.reason, _short(value))
        return None
    found.images.setdefault(digest, image)
    return digest


def _look_up(value: str, folder: Path) -> tuple[StoredImage, str]:
    if value.startswith("<"):
        raise _UnusableError(Refusal.DRAWING)
    if value.lower().startswith(_ADDRESSES):
        raise _UnusableError(Refusal.ADDRESS)
    image = StoredImage(_short(value), _inline(value) if value.startswith("data:") else folder / value)
    try:
        content = image.content()
    except (OSError, ValueError):  # ValueError: a NUL in a path
        raise _UnusableError(Refusal.UNREADABLE) from None
    if _is_drawing(content):
        raise _UnusableError(Refusal.DRAWING)
    return image, hashlib.sha256(content).hexdigest()


def _short(value: str) -> str:
    return f"{value[:_NAME_CHARACTERS]}…" if len(value) > _NAME_CHARACTERS else value


def _inline(uri: str) -> bytes:
    """The content of a `data:` URI (RFC 2397); empty where it is broken."""
    header, _, body = uri.partition(",")
    try:
        return b64decode(unquote_to_bytes(body)) if header.endswith(";base64") else unquote_to_bytes(body)
    except ValueError:
        return b""


def _is_drawing(content: bytes) -> bool:
    start = content[:_SNIFFED_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--"))
