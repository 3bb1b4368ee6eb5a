"""Who gets a slate next, and the whole loop: a click makes a slate stale, and a fresh one is kept unasked."""

from __future__ import annotations

import asyncio
from pathlib import Path

from asterism.core.records import Action
from asterism.serving.slate_inputs import LastSlate, SlateInput
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


def last_slate(state: Path, visitor: Visitor) -> LastSlate | None:
    async def ask() -> LastSlate | None:
        visitors = GatewayVisitors(gateway_address(state))
        (found,) = await visitors.inputs([Waiting(visitor, None)])
        await visitors.close()
        assert isinstance(found, SlateInput)
        return found.last

    return asyncio.run(ask())


def test_a_click_is_followed_by_a_fresh_slate_nobody_asked_for(bundle: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Server(bundle, state) as running:
        before = running.recommend("u1", count=5)
        clicked = ids(before)[0]
        first = last_slate(state, Visitor("u1"))
        assert first is not None
        running.feedback("u1", clicked)
        wait_until(lambda: (now := last_slate(state, Visitor("u1"))) is not None and now.revision != first.revision)
        after = running.recommend("u1", count=5)
        assert (after["source"], after["cached"], clicked in ids(after)) == ("model", True, False)
        for item in ("tents-00", "tents-01"):
            running.feedback("newcomer", item)
        wait_until(lambda: last_slate(state, Visitor("newcomer")) is not None)
        feed = running.recommend("newcomer", count=5)
        assert (feed["source"], {one.partition("-")[0] for one in ids(feed)}) == ("model", {"tents"})
