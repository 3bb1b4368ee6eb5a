"""What visitors did before the service ran, as their states begin with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from asterism.core.bundle import Bundle
from asterism.serving.hot_state import PastEvent
from asterism.stores.user_state import MAX_RECENT, RecentEvent, Visitor


def earlier_events(past: Iterable[PastEvent]) -> Callable[[Visitor], Sequence[RecentEvent]]:
    """What each visitor did before the service ran, in the order of the histories."""
    by_user: dict[str, list[RecentEvent]] = defaultdict(list)
    for one in past:
        by_user[one.user_id].append(one.event)

    def of(visitor: Visitor) -> Sequence[RecentEvent]:
        return by_user.get(visitor.user_id, ()) if visitor.user_id is not None else ()

    return of


def recent_kept(bundle: Bundle) -> int:
    """How many positive events a state keeps: as many as the model reads, and no fewer than the usual number."""
    return max(MAX_RECENT, int(bundle.manifest.facts.get("events_read", 0)))
