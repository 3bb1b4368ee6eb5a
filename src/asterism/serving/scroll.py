"""Where an endless feed stands: what was shown in it, in a string that the client hands back.

Nothing of it is kept here, so that it outlives a restart and a new bundle, and leads on at any gateway. It needs no
signature: all that a forged one can do is leave items out, which a request may ask for anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from asterism.core.errors import CursorError
from asterism.core.ids import IdMap

#: Items of one scroll at most; after that there is no further page.
MAX_SHOWN: Final = 1000

_FORMAT: Final = b"\x01"
_MARK_BYTES: Final = 5  # of a hash: of a million items, one scroll of 1000 items in a thousand leaves out one too many
_HEAD_BYTES: Final = 5  # format and checksum
_MAX_CHARACTERS: Final = (_HEAD_BYTES + MAX_SHOWN * _MARK_BYTES) * 4 // 3 + 4


class Scroll(NamedTuple):
    """What was shown so far: a mark an item, and those of the items that are still in the catalogue."""

    marks: tuple[bytes, ...] = ()
    item_ids: frozenset[str] = frozenset()


class Scrolls:
    """Reads and writes cursors over one catalogue."""

    def __init__(self, ids: IdMap) -> None:
        marks = np.array([int.from_bytes(_mark(one)) for one in ids], dtype=np.int64)
        self._order = np.argsort(marks, kind="stable")
        self._sorted = marks[self._order]
        self._ids = ids

    def read(self, cursor: str | None) -> Scroll:
        """Where a scroll stands, at its start without a cursor; raises `CursorError`."""
        if cursor is None:
            return Scroll()
        body = _unpacked(cursor)
        marks = tuple(body[start : start + _MARK_BYTES] for start in range(0, len(body), _MARK_BYTES))
        asked = np.array([int.from_bytes(one) for one in marks], dtype=np.int64)
        starts = np.searchsorted(self._sorted, asked, "left").tolist()
        stops = np.searchsorted(self._sorted, asked, "right").tolist()
        places = [self._order[start:stop] for start, stop in zip(starts, stops, strict=True)]
        return Scroll(marks, frozenset(self._ids.id_of(int(one)) for some in places for one in some))

    def after(self, scroll: Scroll, shown: Iterable[str]) -> str | None:
        """The cursor behind a page, or None where as much has been shown as one scroll shows."""
        marks = [*scroll.marks, *map(_mark, shown)]
        return _packed(b"".join(marks)) if len(marks) < MAX_SHOWN else None


def _mark(item_id: str) -> bytes:
    return hashlib.blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=_MARK_BYTES).digest()


def _packed(body: bytes) -> str:
    head = _FORMAT + zlib.crc32(body).to_bytes(_HEAD_BYTES - 1)
    return base64.urlsafe_b64encode(head + body).rstrip(b"=").decode()


def _unpacked(cursor: str) -> bytes:
    """The marks; raises `CursorError`."""
    if len(cursor) > _MAX_CHARACTERS:
        raise CursorError(f"the cursor is longer than the {_MAX_CHARACTERS} characters that one has; {_ANEW}")
    try:
        text = cursor.encode("ascii")
        whole = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise CursorError(f"the cursor is not one of ours; {_ANEW}") from None
    head, body = whole[:_HEAD_BYTES], whole[_HEAD_BYTES:]
    if head[:1] != _FORMAT or len(body) % _MARK_BYTES or zlib.crc32(body).to_bytes(4) != head[1:]:
        raise CursorError(f"the cursor is garbled; {_ANEW}")
    return body


_ANEW: Final = "send the request again without one to begin anew"
