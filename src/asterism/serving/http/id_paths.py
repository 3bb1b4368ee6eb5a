"""Ids in paths: any text, also slashes and line ends, at which Starlette's own `path` stops.

What ASGI decodes no longer tells the cover of item `x` from the item `x/cover`; the path as it was sent does.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor

#: As in `f"/item/{{item_id:{ANY_TEXT}}}"`.
ANY_TEXT: Final = "any_text"


class AnyText(Convertor[str]):
    """Takes whatever there is."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor(ANY_TEXT, AnyText())


def names_a_cover(sent_path: bytes) -> bool:
    """Whether the last segment of a path as it was sent is `cover`; the slash of an id is sent as `%2F`."""
    return unquote_to_bytes(sent_path.rpartition(b"/")[2]) == b"cover"
