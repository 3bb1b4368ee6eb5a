"""Collections by turns: the young at once, the old where nobody waits, and nothing stays for ever."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from asterism.core import pauses
from asterism.core.pauses import PacedCollections

MINUTE, HOUR = pauses._TURNS_ALL, pauses._TURNS_ALL_LATEST


class Ring:
    """Holds itself."""

    def __init__(self) -> None:
        self.next = self


@pytest.fixture
def collected() -> Iterator[list[int]]:
    """The generations that are collected, in their order; the interpreter itself collects nothing meanwhile."""
    found: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop":
            found.append(info["generation"])

    gc.disable()
    gc.collect()
    gc.freeze()  # so that what other tests left is not walked a thousand times
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    gc.unfreeze()
    gc.enable()


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much is allocated, as the last one says."""
    found = [1000]
    monkeypatch.setattr(pauses.sys, "getallocatedblocks", lambda: found[-1])
    return found


class Requests:
    """Counts them; with `comes`, another one came since each look."""

    def __init__(self, *, comes: bool) -> None:
        self.comes = comes
        self.done = 0

    def __call__(self) -> int:
        self.done += self.comes
        return self.done


def an_old_cycle() -> weakref.ref[Ring]:
    """One that was seen alive by two collections, and that nobody holds any more."""
    ring = Ring()
    gc.collect(1)
    assert any(one is ring for one in gc.get_objects(generation=2))
    return weakref.ref(ring)


def test_a_cycle_that_dies_young_goes_with_the_next_turn(collected: list[int]) -> None:
    turns, ring = PacedCollections(Requests(comes=True)), weakref.ref(Ring())
    assert ring() is not None
    turns.turn()
    assert (ring(), collected) == (None, [0])


def test_each_third_turn_takes_the_generation_between(collected: list[int]) -> None:
    turns = PacedCollections(Requests(comes=True))
    held = Ring()
    turns.turn()
    ring = weakref.ref(held)
    del held  # after it was seen alive by one collection
    turns.turn()
    assert ring() is not None
    turns.turn()
    assert (ring(), collected) == (None, [0, 0, 1])


def test_an_old_cycle_goes_after_a_minute_once_nobody_asks(collected: list[int]) -> None:
    asked = Requests(comes=True)
    turns, ring = PacedCollections(asked), an_old_cycle()
    collected.clear()
    for _ in range(MINUTE + 5):
        turns.turn()
    assert ring() is not None, "somebody would have had to wait"
    assert 2 not in collected
    asked.comes = False
    turns.turn()
    assert ring() is None
    assert collected[-1] == 2


def test_all_is_not_walked_before_a_minute_nor_again_while_nobody_ever_asks(collected: list[int]) -> None:
    asked = Requests(comes=False)
    turns = PacedCollections(asked)
    for _ in range(2 * MINUTE):
        turns.turn()
    assert 2 not in collected, "nothing was done that could have left a cycle"
    asked.done += 1
    turns.turn()
    assert 2 not in collected
    turns.turn()
    assert collected[-1] == 2
    collected.clear()
    asked.done += 1
    for _ in range(MINUTE - 1):
        turns.turn()
    assert 2 not in collected
    turns.turn()
    assert collected[-1] == 2


def test_an_old_cycle_goes_after_an_hour_however_many_ask(collected: list[int]) -> None:
    turns, ring = PacedCollections(Requests(comes=True)), an_old_cycle()
    for _ in range(HOUR - 1):
        turns.turn()
    assert ring() is not None
    turns.turn()
    assert ring() is None
    assert collected[-1] == 2


def test_an_old_cycle_goes_once_memory_has_grown_by_a_half(collected: list[int], blocks: list[int]) -> None:
    turns, ring = PacedCollections(Requests(comes=True)), an_old_cycle()
    collected.clear()
    blocks.append(1500)
    for _ in range(pauses._TURNS_LOOK):
        turns.turn()
    assert ring() is not None
    blocks.append(1501)
    for _ in range(pauses._TURNS_LOOK):
        turns.turn()
    assert ring() is None
    assert collected.count(2) == 1
    for _ in range(2 * pauses._TURNS_LOOK):
        turns.turn()
    assert collected.count(2) == 1, "it has not grown since"


def test_turns_are_taken_until_they_are_cancelled(collected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "_TURN_SECONDS", 0.0)

    async def story() -> None:
        running = asyncio.create_task(PacedCollections(Requests(comes=True)).run())
        while len(collected) < 12:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()

    asyncio.run(story())
    assert collected[:12] == [0, 0, 1] * 4
