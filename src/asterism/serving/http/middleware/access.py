"""Which scope a request needs: the table of routes, and what stands beside it."""

from __future__ import annotations

from typing import Final

from asterism.serving.http.id_paths import names_a_cover
from asterism.serving.http.scopes import scope_of

#: A cover is loaded by the browser itself, which sends no key along.
_COVER: Final = ("/api/v1/item/", "/cover")


def scope_needed(method: str, path: str, sent_path: bytes) -> str | None:
    """The scope, or None where no key is needed; `path` as ASGI decodes it, beside what was sent."""
    if path.endswith(_COVER[1]) and path.startswith(_COVER[0]) and method == "GET" and names_a_cover(sent_path):
        return None
    return scope_of(method, path)
