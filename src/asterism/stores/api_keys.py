"""The API keys port: who may ask what, without anything that would let a reader of the store ask it."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from asterism.core.errors import UnknownIdError

#: A token of ours wherever it stands; whoever scans repositories or logs for secrets can look for it.
TOKEN_PATTERN: Final = r"ast_[0-9a-f]{12}_[A-Za-z0-9_-]{43}"
_TOKEN: Final = re.compile(TOKEN_PATTERN.encode())
_ID: Final = slice(4, 16)
_SECRET_BYTES: Final = 32


class Scope(StrEnum):
    """What a key may do; `admin` may do all of it."""

    READ = "read"  # recommendations, items, search
    WRITE = "write"  # feedback
    PERSONAL = "personal"  # profiles, forget-me
    WATCH = "watch"  # metrics
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept; times are Unix seconds, `digest` is the SHA-256 of the token."""

    key_id: str
    name: str
    scopes: frozenset[Scope]
    digest: bytes
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None  # the start of the hour

    def allows(self, scope: Scope) -> bool:
        """Whether the key may do what needs this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def is_over(self, now_seconds: float) -> bool:
        """Whether it was revoked or has expired."""
        return self.revoked_at is not None or (self.expires_at is not None and now_seconds >= self.expires_at)


class NewKey(NamedTuple):
    """A key, and the token that is shown once."""

    key: ApiKey
    token: str


class Changes(NamedTuple):
    """Keys that changed after a number, and the number that now stands."""

    keys: Sequence[ApiKey]
    number: int


def new_key(name: str, scopes: frozenset[Scope], now_seconds: float, expires_at: int | None = None) -> NewKey:
    """Draw a key with a secret of 256 bits."""
    key_id = secrets.token_hex(6)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    token = f"ast_{key_id}_{secret}"
    return NewKey(ApiKey(key_id, name, scopes, digest_of(token.encode()), int(now_seconds), expires_at), token)


def digest_of(token: bytes) -> bytes:
    """What is kept of a token. One round is enough: nobody tries all of 2^256 secrets, however fast each try is."""
    return hashlib.sha256(token).digest()


def id_in(token: bytes) -> str | None:
    """The id that a token names, or None where it has not the form of a token."""
    return token[_ID].decode() if _TOKEN.fullmatch(token) else None


class ApiKeys(Protocol):
    """Keys by id; every method may be called from any thread. A key is never deleted."""

    def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        ...

    def revoke(self, key_id: str, at_seconds: int) -> None:
        """End a key for ever; the first time counts. Raises `UnknownIdError`."""
        ...

    def expire(self, key_id: str, at_seconds: int) -> None:
        """Let a key end at a time, unless it ends earlier; raises `UnknownIdError`."""
        ...

    def note_used(self, hours: Mapping[str, int]) -> None:
        """Remember when keys were used last, by their ids; unknown ones are passed over."""
        ...

    def all(self) -> list[ApiKey]:
        """Every key, oldest first."""
        ...

    def changes_after(self, number: int) -> Changes:
        """Keys added, revoked or given another end after `number`; 0 gives all."""
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...


class LocalApiKeys:
    """Implements `ApiKeys` in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[ApiKey, int]] = {}
        self._number = 0
        self._lock = threading.Lock()

    def add(self, key: ApiKey) -> None:
        """See `ApiKeys.add`."""
        with self._lock:
            self._put(key)

    def revoke(self, key_id: str, at_seconds: int) -> None:
        """See `ApiKeys.revoke`."""
        with self._lock:
            key = self._known(key_id)
            if key.revoked_at is None:
                self._put(replace(key, revoked_at=at_seconds))

    def expire(self, key_id: str, at_seconds: int) -> None:
        """See `ApiKeys.expire`."""
        with self._lock:
            key = self._known(key_id)
            if key.expires_at is None or key.expires_at > at_seconds:
                self._put(replace(key, expires_at=at_seconds))

    def note_used(self, hours: Mapping[str, int]) -> None:
        """See `ApiKeys.note_used`."""
        with self._lock:
            for key_id, hour in hours.items():
                if key_id in self._keys:
                    key, number = self._keys[key_id]
                    self._keys[key_id] = (replace(key, last_used_at=max(hour, key.last_used_at or 0)), number)

    def all(self) -> list[ApiKey]:
        """See `ApiKeys.all`."""
        with self._lock:
            return sorted((key for key, _ in self._keys.values()), key=lambda key: (key.created_at, key.key_id))

    def changes_after(self, number: int) -> Changes:
        """See `ApiKeys.changes_after`."""
        with self._lock:
            return Changes([key for key, changed in self._keys.values() if changed > number], self._number)

    def close(self) -> None:
        """See `ApiKeys.close`."""

    def _known(self, key_id: str) -> ApiKey:
        if key_id not in self._keys:
            raise unknown(key_id)
        return self._keys[key_id][0]

    def _put(self, key: ApiKey) -> None:
        self._number += 1
        self._keys[key.key_id] = (key, self._number)


def unknown(key_id: str) -> UnknownIdError:
    """The error for a key that is not there."""
    return UnknownIdError(f"there is no API key {key_id!r}; `asterism keys list` shows the ids")
