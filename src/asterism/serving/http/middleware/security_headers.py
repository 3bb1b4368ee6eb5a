"""What every answer carries unless it says otherwise; the page loosens the policy for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_FIXED: Final = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_NAMES: Final = frozenset(name for name, _ in _FIXED)


def secured(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """An answer's headers with those that it does not set itself."""
    own = _NAMES.intersection([name for name, _ in headers])
    return [*headers, *([one for one in _FIXED if one[0] not in own] if own else _FIXED)]
