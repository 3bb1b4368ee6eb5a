"""What the groups write: behaviours into SQL, the cold history, users' states where they are shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asterism.core.records import POSITIVE_ACTIONS
from asterism.serving.hot_state import recent_event
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.forgotten import ForgottenUsers
from asterism.stores.opening import Hot
from asterism.stores.user_state import Visitor
from asterism.stores.users import Users


class Behaviours:
    """Implements `Handler`: what visitors did, once by their event ids."""

    has_more: Final = False

    def __init__(self, users: Users) -> None:
        self._users = users

    def __call__(self, batch: Sequence[Arrival]) -> None:
        """See `Handler`."""
        self._users.record([one.event for one in batch])

    def forget(self, user_id: str) -> None:
        """See `Handler.forget`."""
        self._users.forget_behaviours(user_id)

    def close(self) -> None:
        """See `Handler`."""
        self._users.close()


class History:
    """Implements `Handler`: the cold history, where rows of one event become one."""

    has_more: Final = False

    def __init__(self, history: Any) -> None:
        self._history = history

    def __call__(self, batch: Sequence[Arrival]) -> None:
        """See `Handler`."""
        self._history.append([one.event for one in batch])

    def forget(self, user_id: str) -> None:
        """See `Handler.forget`."""
        self._history.forget(user_id)

    def close(self) -> None:
        """See `Handler`."""
        self._history.close()


class States:
    """Implements `Handler`: states that gateways share, once by their offsets, and what is popular."""

    has_more: Final = False

    def __init__(self, hot: Hot, forgotten: ForgottenUsers) -> None:
        self._hot = hot
        self._forgotten = forgotten

    def __call__(self, batch: Sequence[Arrival]) -> None:
        """See `Handler`; what is surely from before its user was forgotten is left out, until the record comes."""
        wanted: list[str] = []
        try:
            for event, offset, published_at in batch:
                if self._forgotten.is_past(event.user_id, published_at):
                    continue
                changed = self._hot.states.apply(Visitor(event.user_id, event.session_id), recent_event(event), offset)
                if changed and event.action in POSITIVE_ACTIONS:
                    wanted.append(event.item_id)
        finally:
            self._hot.counts.add(wanted)

    def forget(self, user_id: str) -> None:
        """See `Handler.forget`; what is popular stays, as it names nobody."""
        self._forgotten.earlier.forget(user_id)
        self._hot.forget(Visitor(user_id=user_id))

    def close(self) -> None:
        """See `Handler`."""
        self._forgotten.close()
        self._hot.close()
