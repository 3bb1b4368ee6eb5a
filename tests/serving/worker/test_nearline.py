"""Who gets a slate next, and the whole loop: a click makes a slate stale, and a fresh one is kept unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from asterism.core.errors import AsterismError
from asterism.core.records import Action
from asterism.serving.slate_inputs import SlateInput
from asterism.serving.supervisor.run_folder import gateway_address
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.nearline import StaleSlates
from asterism.serving.worker.visitors import GatewayVisitors, Waiting
from asterism.stores.event_log import Event
from asterism.stores.user_state import Offset, Visitor
from serving.running import Server, ids, wait_until


def arrival(number: int, user_id: str | None, action: Action = Action.CLICK, session_id: str | None = None) -> Arrival:
    return Arrival(Event(f"e{number}", f"i{number}", action, number, user_id, session_id), Offset("p", number))


def test_the_most_active_come_first_and_each_once() -> None:
    stale = StaleSlates()
    stale.add([arrival(1, "ada"), arrival(2, "bob"), arrival(3, "eve"), arrival(4, "bob")])
    stale.add([arrival(5, None, session_id="s"), arrival(6, "eve", Action.IMPRESSION)])
    assert len(stale) == 4
    (first, wish), (second, _) = stale.take(2)
    assert (first, wish.events, wish.arrival.event.event_id) == (Visitor("bob"), 2, "e4")
    assert second == Visitor("ada"), "of equals, who waits longest"
    assert [visitor for visitor, _ in stale.take(9)] == [Visitor("eve"), Visitor(session_id="s")]
    assert len(stale) == 0


def test_of_too_many_the_least_active_leave() -> None:
    stale = StaleSlates(most=2)
    stale.add([arrival(1, "ada"), arrival(2, "bob"), arrival(3, "bob"), arrival(4, "eve"), arrival(5, "eve")])
    assert {visitor for visitor, _ in stale.take(9)} == {Visitor("bob"), Visitor("eve")}
    assert stale.dropped == 1
    stale.add([arrival(6, "ada")])
    stale.forget(Visitor("ada"))
    assert stale.take(9) == []


def last_revision(state: Path, visitor: Visitor) -> int | None:
    """Of which state a visitor's slate was made; None where there is none yet, or one of an older state."""

    async def ask() -> SlateInput | AsterismError:
        visitors = GatewayVisitors(gateway_address(state))
        try:
            (found,) = await visitors.inputs([Waiting(visitor, None)])
        except AsterismError as error:
            return error
        finally:
            await visitors.close()
        return found

    found = asyncio.run(ask())
    if isinstance(found, AsterismError) or found.state is not None or found.last is None:
        return None
    return found.last.revision


def click(running: Server, state: Path, user_id: str, item_ids: Sequence[str]) -> None:
    """Click, and wait for the slate that nobody asked for; again where a slow machine held up the one try at it."""
    visitor = Visitor(user_id)
    before = last_revision(state, visitor)
    for number in range(3):
        for one in item_ids:
            running.feedback(user_id, one, event_id=f"{user_id}-{one}-{number}")
        try:
            wait_until(lambda: last_revision(state, visitor) not in (None, before), 20)
        except AssertionError:
            continue
        return
    raise AssertionError("no slate was made")


def test_a_click_is_followed_by_a_fresh_slate_nobody_asked_for(bundle: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Server(bundle, state) as running:
        before = running.recommend("u1", count=5)
        clicked = ids(before)[0]
        wait_until(lambda: last_revision(state, Visitor("u1")) is not None)
        click(running, state, "u1", [clicked])
        after = running.recommend("u1", count=5)
        assert (after["source"], after["cached"], clicked in ids(after)) == ("model", True, False)
        click(running, state, "newcomer", ["tents-00", "tents-01"])
        feed = running.recommend("newcomer", count=5)
        assert (feed["source"], feed["cached"]) == ("model", True)
        assert {one.partition("-")[0] for one in ids(feed)} == {"tents"}
