"""What visitors did before the service ran, as their states begin with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence

from asterism.core.bundle import Bundle
from asterism.serving.hot_state import PastEvent
from asterism.stores.user_state import MAX_RECENT, RecentEvent, Visitor
from asterism.stores.users import digest_of


class EarlierEvents:
    """The events of a bundle's histories by visitor, without those who were forgotten."""

    def __init__(self, past: Iterable[PastEvent], forgotten: Container[str] = ()) -> None:
        """Take the histories in their order, and the digests of the forgotten (`Users.forgotten`)."""
        self._by_user: dict[str, list[RecentEvent]] = defaultdict(list)
        for one in past:
            self._by_user[one.user_id].append(one.event)
        if forgotten:
            for user_id in [one for one in self._by_user if digest_of(one) in forgotten]:
                self.forget(user_id)

    def __call__(self, visitor: Visitor) -> Sequence[RecentEvent]:
        """What a visitor did, in the order of the histories."""
        return self._by_user.get(visitor.user_id, ()) if visitor.user_id is not None else ()

    def forget(self, user_id: str) -> None:
        """Leave a user out from now on."""
        self._by_user.pop(user_id, None)

    def users(self) -> list[str]:
        """Of whom there are any."""
        return list(self._by_user)

    def all(self) -> list[PastEvent]:
        """Everything that is left, one user after another."""
        return [PastEvent(user_id, event) for user_id, events in self._by_user.items() for event in events]


def recent_kept(bundle: Bundle) -> int:
    """How many positive events a state keeps: as many as the model reads, and no fewer than the usual number."""
    return max(MAX_RECENT, int(bundle.manifest.facts.get("events_read", 0)))
