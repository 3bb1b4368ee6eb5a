"""Examples of what answers of the admin side hold."""

from __future__ import annotations

from typing import Any, Final

from asterism.serving.http.examples import ITEM as CARD
from asterism.serving.http.examples import READY

ITEM: Final[dict[str, Any]] = {**CARD, "created_at": 1767225600, "hidden": False, "recommendable": True}
ITEMS: Final[dict[str, Any]] = {"items": [ITEM], "next": "i42"}
DELETED: Final[dict[str, Any]] = {"item_id": "i42"}
USER: Final[dict[str, Any]] = {"user_id": "u9", "attributes": {"city": "Vega", "age": 31.0}}
USERS: Final[dict[str, Any]] = {"users": [USER], "next": None}
IMPORT: Final[dict[str, Any]] = {
    "imported": 1999,
    "refused": 1,
    "lines": [{"line": 7, "reason": "field `price`: 'cheap' is no float; correct it"}],
}
DEPLOYMENT: Final[dict[str, Any]] = {
    "version": "fead9dfd5493dd01",
    "name": "beauty-2026-11",
    "previous": "beauty",
    "bundles": ["beauty", "beauty-2026-11"],
    "restart_needed": True,
}
DASHBOARD: Final[dict[str, Any]] = {
    "started_at": 1767225600,
    "model": DEPLOYMENT,
    "items": {"total": 20000, "unavailable": 12},
    "users": {"profiles": 300, "active": 21000},
    "engine": READY["engine"],
}
