"""Who asks: whose key it is, and whether it may do this; without keys, whether it comes from this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from asterism.serving.http.errors import ForbiddenError, UnauthenticatedError
from asterism.serving.http.middleware.cors import Cors
from asterism.serving.http.middleware.key_ring import KeyRing

Headers = Mapping[bytes, bytes]

NOBODY: Final = "open"  # stands for the key where none is asked for
_HERE: Final = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?")


class Callers:
    """Knows callers by the headers of their requests."""

    def __init__(self, ring: KeyRing | None, cors: Cors, *, only_here: bool = False) -> None:
        """Without a `ring` no key is asked for; `only_here` says that an open service is for this machine alone."""
        self._ring = ring
        self._cors = cors
        self._only_here = only_here
        self._known_host = b"localhost"

    def key_id_of(self, method: str, headers: Headers, needed: str) -> str:
        """Whose request it is, which needs a scope; raises `UnauthenticatedError`, `ForbiddenError` and what keys do.

        Counts nothing, so that the same request may be looked at twice.
        """
        ring = self._ring
        if ring is None or ring.is_empty:
            if self._only_here:
                self._check_from_here(method, headers)
            return NOBODY
        key = ring.key_of(_token(headers))
        if needed not in key.scopes:
            raise ForbiddenError(f"this API key lacks the scope {needed!r}, which this request needs")
        return key.key_id

    def _check_from_here(self, method: str, headers: Headers) -> None:
        """A page elsewhere must not reach a service without keys through the browser of who runs it."""
        host = headers.get(b"host", self._known_host)
        if host != self._known_host:
            if not _HERE.fullmatch(host):
                raise ForbiddenError(
                    "without API keys only requests to localhost are answered; `asterism keys create` makes a key"
                )
            self._known_host = host
        origin = headers.get(b"origin")
        if origin is None or method == "GET" or self._cors.allows(origin):
            return
        if origin.partition(b"://")[2] != host:
            raise ForbiddenError(
                "pages of other origins may not change anything here; name theirs in `origins` of [guard]"
            )


def _token(headers: Headers) -> bytes:
    authorization = headers.get(b"authorization")
    if authorization is None:
        token = headers.get(b"x-api-key")
        if token is None:
            raise UnauthenticatedError("no API key was given; send it as `Authorization: Bearer ast_…`")
        return token
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise UnauthenticatedError("the API key is sent as `Authorization: Bearer ast_…`, or as `X-API-Key`")
    return token.strip()
