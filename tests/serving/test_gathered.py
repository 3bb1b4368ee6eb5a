"""Reads that are asked for together: none is older than its question, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from asterism.core.errors import StorageError
from asterism.serving.gathered import _LANES, _MOST_AT_ONCE, GatheredReads

T = TypeVar("T")


def run(story: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(story, 60))


class Store:
    """Values that change, read some turns of the loop after they were asked for."""

    def __init__(self) -> None:
        self.values: dict[int, int] = {}
        self.reads: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.under_way = self.most_under_way = 0

    async def read_many(self, keys: Sequence[int]) -> Sequence[int | StorageError]:
        self.reads.append(list(keys))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        found: list[int | StorageError] = [self.values.get(key, 0) for key in keys]
        await asyncio.sleep(0)
        await self.open.wait()
        self.under_way -= 1
        return found


def test_who_asks_at_once_is_asked_for_together_and_each_key_once() -> None:
    async def story() -> None:
        store = Store()
        store.values = {key: 10 * key for key in range(5)}
        reads = GatheredReads(store.read_many, 60.0)
        found = await asyncio.gather(*(reads.of(key % 5) for key in range(20)))
        assert found == [10 * (key % 5) for key in range(20)]
        assert store.reads == [[0, 1, 2, 3, 4]]

    run(story())


def test_while_all_lanes_are_taken_questions_gather() -> None:
    async def story() -> None:
        store = Store()
        reads = GatheredReads(store.read_many, 60.0)
        store.open.clear()
        asked = []
        for key in range(1000):
            asked.append(asyncio.create_task(reads.of(key)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert store.most_under_way == _LANES
        store.open.set()
        await asyncio.gather(*asked)
        assert max(map(len, store.reads)) == _MOST_AT_ONCE
        assert sorted(key for keys in store.reads for key in keys) == list(range(1000))
        assert len(store.reads) <= _LANES + 1000 // _MOST_AT_ONCE + 1
        assert store.most_under_way == _LANES

    run(story())


def test_an_answer_is_never_older_than_its_question() -> None:
    async def story() -> None:
        store, drawn = Store(), random.Random(0)
        reads = GatheredReads(store.read_many, 60.0)

        async def visitor(number: int) -> None:
            for _ in range(200):
                key = drawn.randrange(4)
                before = store.values.get(key, 0)
                found = await reads.of(key)
                assert found is not None
                assert found >= before
                store.values[key] = store.values.get(key, 0) + 1
                if drawn.random() < 0.5:
                    await asyncio.sleep(0)

        await asyncio.gather(*(visitor(number) for number in range(8)))
        assert len(store.reads) < 1600, "some were gathered"

    run(story())


def test_of_a_bad_key_the_others_hear_nothing() -> None:
    async def read_many(keys: Sequence[str]) -> Sequence[str | StorageError]:
        return [StorageError(f"{key} cannot be read") if key == "bad" else key for key in keys]

    async def story() -> list[Any]:
        reads = GatheredReads(read_many, 60.0)
        return await asyncio.gather(*(reads.of(key) for key in ("a", "bad", "b")), return_exceptions=True)

    first, second, third = run(story())
    assert (first, third) == ("a", "b")
    assert isinstance(second, StorageError)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fails", [False, True])
def test_where_nobody_answers_all_hear_so_and_the_next_are_asked_for_again(fails: bool) -> None:
    answers = False

    async def read_many(keys: Sequence[str]) -> Sequence[str | StorageError] | None:
        await asyncio.sleep(0.001)
        if answers:
            return list(keys)
        if fails:
            raise RuntimeError("a bug")
        return None

    async def story() -> None:
        nonlocal answers
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        reads = GatheredReads(read_many, 60.0)
        for _ in range(2 * _LANES):
            assert await asyncio.gather(*(reads.of(key) for key in "abc")) == [None] * 3
        answers = True
        assert await reads.of("a") == "a"

    run(story())


def test_who_goes_leaves_the_others_their_answer() -> None:
    async def story() -> None:
        store = Store()
        store.values = {1: 11}
        reads = GatheredReads(store.read_many, 60.0)
        store.open.clear()
        asked = [asyncio.create_task(reads.of(1)) for _ in range(3)]
        await asyncio.sleep(0.01)
        asked[0].cancel()
        store.open.set()
        assert await asyncio.gather(*asked[1:]) == [11, 11]
        with pytest.raises(asyncio.CancelledError):
            await asked[0]
        assert await reads.of(1) == 11

    run(story())


def test_patience_runs_from_the_question_on() -> None:
    async def story() -> None:
        store = Store()
        reads = GatheredReads(store.read_many, 0.05)
        store.open.clear()
        assert await asyncio.gather(*(reads.of(key) for key in range(_LANES * _MOST_AT_ONCE + 5))) == [None] * (
            _LANES * _MOST_AT_ONCE + 5
        )
        store.open.set()
        store.values = {1: 11}
        assert await reads.of(1) == 11
        asked = sorted(key for keys in store.reads for key in keys)
        assert asked == sorted([*range(_LANES * _MOST_AT_ONCE), 1]), "who has gone is not asked for"

    run(story())
