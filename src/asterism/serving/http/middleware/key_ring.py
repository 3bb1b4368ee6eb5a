"""Every key of the store in memory, followed by the number of its last change: a request costs no query."""

from __future__ import annotations

import datetime
import hmac
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from asterism.core.clock import Clock
from asterism.core.errors import AsterismError, StoreUnavailableError
from asterism.serving.http.errors import UnauthenticatedError
from asterism.stores.api_keys import ApiKey, ApiKeys, digest_of, id_in

logger = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 1.0
#: So long what was known of keys holds while their store cannot be reached, where nobody can revoke one either.
GRACE_SECONDS: Final = 300.0
_NO_DIGEST: Final = bytes(32)


class KeyRing:
    """Knows whose a token is. What changes in the store holds here after `refresh_seconds`."""

    def __init__(
        self,
        keys: ApiKeys,
        clock: Clock,
        refresh_seconds: float = REFRESH_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read all keys; raises `StoreUnavailableError`."""
        self._store = keys
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._grace_seconds = grace_seconds
        self._monotonic = monotonic
        self._keys: dict[str, ApiKey] = {}
        self._number = 0
        self._told_hours: dict[str, int] = {}
        self._new_hours: dict[str, int] = {}
        self._refresh()
        self._closing = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="api-keys", daemon=True)
        self._follower.start()

    @property
    def is_empty(self) -> bool:
        """Whether there never was a key."""
        return not self._keys

    def key_of(self, token: bytes) -> ApiKey:
        """Whose a token is; raises `UnauthenticatedError`, `StoreUnavailableError`.

        Whether a key has come to its end is told only to those who hold its secret.
        """
        if self._monotonic() > self._holds_until:
            raise StoreUnavailableError("whether API keys still hold cannot be asked for too long; send it again later")
        key_id = id_in(token)
        key = self._keys.get(key_id) if key_id is not None else None
        is_same = hmac.compare_digest(digest_of(token), key.digest if key is not None else _NO_DIGEST)
        if key is None or not is_same:
            raise UnauthenticatedError("this API key is not known; `asterism keys create` makes one")
        now = self._clock.now()
        if key.is_over(now):
            raise UnauthenticatedError(_why_over(key))
        hour = int(now) // 3600 * 3600
        if self._told_hours.get(key.key_id) != hour:
            self._told_hours[key.key_id] = self._new_hours[key.key_id] = hour
        return key

    def close(self) -> None:
        """Follow the store no more, and let go of it."""
        self._closing.set()
        self._follower.join()
        self._store.close()

    def _follow(self) -> None:
        while not self._closing.wait(self._refresh_seconds):
            self._try(self._refresh, "API keys cannot be read")
            self._try(self._tell_hours, "when API keys were used last cannot be kept")
        self._try(self._tell_hours, "when API keys were used last was not kept")

    def _try(self, action: Callable[[], None], complaint: str) -> None:
        try:
            action()
        except AsterismError as error:
            logger.warning("%s: %s", complaint, error)
        except Exception:  # whatever it was, revocations must be learnt of
            logger.exception(complaint)

    def _refresh(self) -> None:
        asked = self._monotonic()
        changes = self._store.changes_after(self._number)
        for key in changes.keys:
            self._keys[key.key_id] = key
        self._number = changes.number
        self._holds_until = asked + self._grace_seconds

    def _tell_hours(self) -> None:
        hours = dict(self._new_hours)
        if hours:
            self._store.note_used(hours)
        for key_id, hour in hours.items():
            if self._new_hours.get(key_id) == hour:
                del self._new_hours[key_id]


def _why_over(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "this API key was revoked; ask for another"
    ended = datetime.datetime.fromtimestamp(key.expires_at or 0, datetime.UTC)
    return f"this API key expired at {ended:%Y-%m-%d %H:%M} UTC; ask for another"
