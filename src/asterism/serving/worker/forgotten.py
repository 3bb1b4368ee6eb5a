"""Who was forgotten, as a worker hears of it: another worker may have had the record, and then gone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from asterism.core.errors import AsterismError
from asterism.serving.features.earlier import EarlierEvents
from asterism.stores.user_state import UserStates
from asterism.stores.users import NOBODY_YET, Users, digest_of, those_meant

logger = logging.getLogger(__name__)

_FOLLOW_SECONDS: Final = 2.0
#: What was published so long before a forget-me is from before it, by whatever clocks; the rest its record erases.
APART_SECONDS: Final = 60.0


class ForgottenUsers:
    """Follows `Users.forgotten` in a thread, and drops what this process holds of them; asked from any thread.

    A database that is down is asked on, and nobody is passed over.
    """

    def __init__(self, users: Users, known: Mapping[str, int], earlier: EarlierEvents, states: UserStates) -> None:
        """`known` are those without whom the `earlier` events were read; nothing is followed yet."""
        self.earlier = earlier
        self.tell: Callable[[Sequence[str]], None] = lambda digests: None  # who else holds something of users
        self._users = users
        self._at_seconds = dict(known)
        self._number = NOBODY_YET  # engines may have been here before
        self._to_tell: set[str] = set()  # digests that could not be told
        self._states = states
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="forgotten-users", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """End, and let go of the database."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._users.close()

    def is_past(self, user_id: str | None, published_at: float | None) -> bool:
        """Whether what was published then is surely from before its user was forgotten."""
        if user_id is None or published_at is None or not self._at_seconds:
            return False
        forgotten_at = self._at_seconds.get(digest_of(user_id))
        return forgotten_at is not None and published_at < forgotten_at - APART_SECONDS

    def catch_up(self) -> None:
        """Hear who was forgotten since, and drop what is held of them; raises `StorageError`."""
        fresh = self._users.forgotten(self._number)
        if fresh.at_seconds:
            self._at_seconds |= fresh.at_seconds
            for user_id in those_meant(fresh.at_seconds, self.earlier.users()):
                self.earlier.forget(user_id)
            self._states.let_go(those_meant(fresh.at_seconds, self._states.users_held()))
            self._to_tell |= fresh.at_seconds.keys()
        self._number = fresh.number
        if self._to_tell:
            self.tell(list(self._to_tell))
            self._to_tell = set()

    def _follow(self) -> None:
        while not self._stop.wait(_FOLLOW_SECONDS):
            try:
                self.catch_up()
            except AsterismError as error:
                logger.warning("who was forgotten elsewhere is not known just now, and is asked again: %s", error)
            except Exception:  # whatever it is, who is forgotten later must be heard of
                logger.exception("who was forgotten elsewhere is not dealt with everywhere, and is tried again")
