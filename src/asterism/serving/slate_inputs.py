"""What the nearline loop reads and writes of visitors, many at once, over the stores of their states and slates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from asterism.core.errors import AsterismError
from asterism.stores.slates import Slate, Slates
from asterism.stores.user_state import RecentEvent, UserState, UserStates, Visitor


class SlateWish(NamedTuple):
    """A visitor, by their key, who waits for a slate; of the state that holds the event, where one is named."""

    visitor: Visitor
    event: RecentEvent | None = None


class LastSlate(NamedTuple):
    """Of which state a visitor's last slate was made, and how it was asked for."""

    revision: int
    scene: str | None
    device: str | None
    asked: int  # items


class SlateInput(NamedTuple):
    """What a visitor's next slate is made of.

    There is no state where no slate is to be made: nothing is known that the visitor wanted, the last slate is of this
    very state, or the event `is_late`, that is, the state does not hold it yet.
    """

    state: UserState | None
    last: LastSlate | None = None
    is_late: bool = False


def read_inputs(states: UserStates, slates: Slates, wishes: Sequence[SlateWish]) -> list[SlateInput | AsterismError]:
    """One input a wish, or why there is none; raises `StoreUnavailableError`."""
    visitors = [one.visitor for one in wishes]
    found = zip(wishes, states.get_many(visitors), slates.get_many(visitors), strict=True)
    return [_input(wish, state, slate) for wish, state, slate in found]


def keep_slates(
    states: UserStates, slates: Slates, kept: Sequence[tuple[Visitor, Slate]]
) -> list[AsterismError | None]:
    """Keep the slates of those who were not forgotten since; of each, why it was refused, or None.

    Raises `StoreUnavailableError`.
    """
    known = states.get_many([visitor for visitor, _ in kept])
    results: list[AsterismError | None] = [one if isinstance(one, AsterismError) else None for one in known]
    places = [
        place
        for place, (state, (_, slate)) in enumerate(zip(known, kept, strict=True))
        if isinstance(state, UserState) and state.came_of(slate.revision)
    ]
    for place, result in zip(places, slates.keep_many([kept[place] for place in places]), strict=True):
        results[place] = result
    _take_back(states, slates, [kept[place] for place in places])
    return results


def _take_back(states: UserStates, slates: Slates, kept: Sequence[tuple[Visitor, Slate]]) -> None:
    """Whose state went while their slate was written was forgotten by another process."""
    for state, (visitor, slate) in zip(states.get_many([visitor for visitor, _ in kept]), kept, strict=True):
        if isinstance(state, UserState) and not state.came_of(slate.revision):
            slates.forget(visitor)


def _input(
    wish: SlateWish, state: UserState | AsterismError, slate: Slate | AsterismError | None
) -> SlateInput | AsterismError:
    if isinstance(state, AsterismError):
        return state
    if isinstance(slate, AsterismError):
        return slate
    last = None if slate is None else LastSlate(slate.revision, slate.scene, slate.device, slate.asked)
    if wish.event is not None and not state.holds(wish.event):
        return SlateInput(None, last, is_late=True)
    is_needed = state.recent and (last is None or last.revision != state.revision)
    return SlateInput(state if is_needed else None, last)
