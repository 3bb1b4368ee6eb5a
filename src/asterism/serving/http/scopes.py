"""Which scope a key needs for which route: one table, read by whoever guards the routes."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

RECOMMEND: Final = "recommend"  # ask for slates, items and neighbours
FEEDBACK: Final = "feedback"  # tell what visitors did
PROFILE: Final = "profile"  # read what is known of a user
FORGET: Final = "forget"  # erase a user
ADMIN_READ: Final = "admin:read"
ADMIN_WRITE: Final = "admin:write"  # items and users
ADMIN_MODEL: Final = "admin:model"  # which bundle is served

SCOPES: Final = (RECOMMEND, FEEDBACK, PROFILE, FORGET, ADMIN_READ, ADMIN_WRITE, ADMIN_MODEL)

_READING: Final = frozenset({"GET", "HEAD"})


class Need(NamedTuple):
    """Requests by one of `methods` (all where there are none) to paths that begin so need `scope`, if any."""

    methods: frozenset[str]
    prefix: str
    scope: str | None


#: Paths that begin so read their body as it arrives, and keep to limits of their own.
STREAMED: Final = "/admin/api/v1/import/"

_ALL: Final[frozenset[str]] = frozenset()

#: The first row that fits holds. A path that no row fits needs nothing, as there is nothing.
NEEDS: Final = (
    Need(_READING, "/admin/api/v1/", ADMIN_READ),
    Need(_ALL, "/admin/api/v1/model/", ADMIN_MODEL),
    Need(_ALL, "/admin/", ADMIN_WRITE),
    Need(frozenset({"DELETE"}), "/api/v1/user/", FORGET),
    Need(_ALL, "/api/v1/user/", PROFILE),
    Need(_ALL, "/api/v1/users/", PROFILE),
    Need(_ALL, "/api/v1/feedback", FEEDBACK),
    Need(_ALL, "/api/v1/", RECOMMEND),
    Need(_ALL, "/metrics", ADMIN_READ),
    Need(_ALL, "/", None),  # the page, its files, the description, health
)


@lru_cache(maxsize=4096)
def scope_of(method: str, path: str) -> str | None:
    """The scope that a request needs, None where it needs no key; `path` as ASGI decodes it."""
    for need in NEEDS:
        if path.startswith(need.prefix) and (not need.methods or method in need.methods):
            return need.scope
    return None
