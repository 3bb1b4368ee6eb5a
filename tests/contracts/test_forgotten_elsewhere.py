"""Who is forgotten at one gateway is forgotten by all processes of a deployment, and may come back at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future

import pytest

from asterism.core.clock import ManualClock
from asterism.core.errors import StoreUnavailableError
from asterism.serving import forgetting
from asterism.serving.recommendation import Source
from asterism.serving.service import Service
from asterism.serving.worker import running
from asterism.serving.worker.batches import Arrival
from asterism.serving.worker.forgotten import APART_SECONDS, ForgottenUsers
from asterism.serving.worker.handlers import States
from asterism.serving.worker.settings import WorkerSettings
from asterism.stores.exposure_log import Exposure
from asterism.stores.user_state import NO_STATE, Offset, UserState, Visitor
from asterism.stores.users import Forgotten, digest_of
from contracts.deployment import ADA, NOW, Place, event, shown, until
from serving.small_market import DELAY_FILE, FORGOTTEN_FILE

KNOWN = Visitor("u1")  # of whom the bundle holds a past, and nothing else does
ALL = (ADA, KNOWN)


@contextlib.asynccontextmanager
async def answering(*services: Service) -> AsyncIterator[None]:
    """Gateways that answer, and hear of others only when a test says so."""
    for one in services:
        one.engine.start()
    try:
        for one in services:
            await one.engine.wait_ready()
        yield
    finally:
        for one in services:
            await one.stop()


def exposed(service: Service, visitor: Visitor) -> list[Exposure]:
    service.exposures.forget({}).result()  # comes behind what waits
    return [one for one in service.exposures.replay() if one.user_id == visitor.user_id]


def remembered(service: Service) -> set[str | None]:
    """Users that a gateway holds anything of in its memory."""
    return {key.visitor.user_id for key in service.recommender._pages._kept} | {
        visitor.user_id
        for visitor, _ in service.exposures._features._written  # type: ignore[attr-defined]
    }


async def items_of(service: Service, visitor: Visitor) -> list[str]:
    return [one.item_id for one in (await service.hot.state_of(visitor)).recent]


def test_another_gateway_holds_nothing_more_of_who_is_forgotten(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there")

    async def use() -> None:
        async with answering(here, there):
            await here.feedback.accept([event(0, "mugs-00")])
            for visitor in ALL:
                for _ in range(2):
                    assert (await shown(there, visitor))[0] is Source.MODEL
            assert {ADA.user_id, KNOWN.user_id} <= remembered(there)
            for visitor in ALL:
                await here.forgetting.forget(str(visitor.user_id))
            await there.forgetting.catch_up()
            assert remembered(there) == set()
            assert list(there.hot.states.users_held()) == []
            assert [exposed(there, visitor) for visitor in ALL] == [[], []]
            await until(lambda: told(place) == {digest_of("ada"): 2, digest_of("u1"): 2})
            for visitor in ALL:
                assert (await shown(there, visitor))[0] is Source.POPULAR
                assert there.hot.states.last_known(visitor).recent == ()

    asyncio.run(use())


def test_who_comes_back_at_once_through_another_gateway_begins_anew(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there")

    async def use() -> None:
        async with answering(here, there):
            assert len(await items_of(there, KNOWN)) == 5
            assert there.hot.states.known(KNOWN)
            await here.forgetting.forget("u1")
            assert not there.hot.states.known(KNOWN)
            assert await there.feedback.accept([event(1, "tents-01", visitor=KNOWN)]) == [True]
            assert await items_of(there, KNOWN) == await items_of(here, KNOWN) == ["tents-01"]
            await there.forgetting.catch_up()
            assert await items_of(there, KNOWN) == await items_of(here, KNOWN) == ["tents-01"], "what is new stays"
            await shown(there, KNOWN)
            await there.forgetting.catch_up()
            assert (len(exposed(there, KNOWN)), remembered(there)) == (1, {"u1"})

    asyncio.run(use())


def test_neither_a_log_nor_an_engine_that_hangs_keeps_a_gateway_from_hearing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = place.gateway("here"), place.gateway("there")
    monkeypatch.setattr(forgetting, "_FOLLOW_SECONDS", 0.01)
    blanked: list[Mapping[str, int]] = []

    def never(forgotten: Mapping[str, int]) -> Future[int]:
        blanked.append(forgotten)
        return Future()

    async def for_ever(digests: Sequence[str]) -> None:
        await asyncio.Event().wait()

    async def use() -> None:
        async with answering(here, there):
            with monkeypatch.context() as hanging:
                hanging.setattr(there.exposures, "forget", never)
                hanging.setattr(there.engine, "forget", for_ever)
                following = asyncio.create_task(there.forgetting.follow())
                for visitor in (KNOWN, Visitor("u2")):
                    await shown(there, visitor)
                    assert visitor.user_id in there.recommender.users_held()
                    await here.forgetting.forget(str(visitor.user_id))
                    await until(lambda: visitor.user_id not in there.recommender.users_held())  # noqa: B023
                    await until(lambda: bool(blanked))
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            assert [one.keys() for one in blanked] == [{digest_of("u1")}]
            await there.forgetting.catch_up()  # what was not done is done later
            assert [exposed(there, visitor) for visitor in (KNOWN, Visitor("u2"))] == [[], []]

    asyncio.run(use())


@pytest.mark.parametrize("where", ["here", "there"])
def test_an_answer_that_was_being_made_is_neither_kept_nor_recorded(place: Place, where: str) -> None:
    here, there = place.gateway("here"), place.gateway("there")
    asked = here if where == "here" else there

    async def use() -> None:
        async with answering(here, there):
            await here.feedback.accept([event(0, "mugs-00")])
            delay = place.folder / DELAY_FILE
            delay.write_text("60")
            asking = asyncio.create_task(shown(asked))
            await until(lambda: bool(asked.engine.status.figures.under_way))
            forgetting = asyncio.create_task(here.forgetting.forget("ada"))
            if where == "here":
                while (await there.hot.state_of(ADA)).recent:
                    await asyncio.sleep(0.005)
            else:
                await forgetting
                await there.forgetting.catch_up()
            delay.unlink()
            await asking
            await forgetting
            assert exposed(asked, ADA) == []
            assert remembered(asked) == set()
            assert await asked.hot.read_slate(ADA) is None

    asyncio.run(use())


def test_who_hears_of_it_from_the_database_finds_no_state_any_more(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there")
    forget, found = here.users.forget, list[UserState]()

    def telling(user_id: str, at: int) -> bool:
        found.append(there.hot.states.get(ADA))
        return forget(user_id, at)

    async def use() -> None:
        async with answering(here, there):
            await here.feedback.accept([event(0, "mugs-00")])
            assert there.hot.states.get(ADA).seen == {"mugs-00"}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(here.users, "forget", telling)
                await here.forgetting.forget("ada")
            assert found == [NO_STATE]

    asyncio.run(use())


def test_what_a_clock_that_is_ahead_wrote_is_erased_too(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there", ManualClock(NOW + 30))

    async def use() -> None:
        async with answering(here, there):
            await shown(there, KNOWN)
            await here.forgetting.forget("u1")
            await there.forgetting.catch_up()
            assert exposed(there, KNOWN) == []

    asyncio.run(use())


def test_who_is_forgotten_twice_in_a_second_is_heard_of_twice(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there")

    async def use() -> None:
        async with answering(here, there):
            for number in range(2):
                await here.feedback.accept([event(number, f"mugs-0{number}")])
                assert (await shown(there))[0] is Source.MODEL
                await here.forgetting.forget("ada")
                await there.forgetting.catch_up()
                assert (remembered(there), exposed(there, ADA)) == (set(), [])

    asyncio.run(use())


def test_what_cannot_be_heard_now_is_heard_later_and_also_by_who_starts_later(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there")

    async def use() -> None:
        async with answering(here):
            async with answering(there):
                await shown(there, KNOWN)
                await here.forgetting.forget("u1")
                with pytest.MonkeyPatch.context() as patch:
                    for store, method in ((there.users, "forgotten"), (there.exposures, "forget")):
                        patch.setattr(store, method, _unavailable)
                        with pytest.raises(StoreUnavailableError):
                            await there.forgetting.catch_up()
                        patch.undo()
                await there.forgetting.catch_up()
                assert (remembered(there), exposed(there, KNOWN)) == (set(), [])
                await shown(there, Visitor("u2"))
            await here.forgetting.forget("u2")
            again = place.gateway("there")
            assert len(exposed(again, Visitor("u2"))) == 1
            async with answering(again):
                await again.forgetting.catch_up()
                assert exposed(again, Visitor("u2")) == []
                assert (await shown(again, Visitor("u2")))[0] is Source.POPULAR

    asyncio.run(use())


def test_what_is_read_of_a_past_while_it_is_looked_for_is_dropped_too(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there")
    past, states = there.forgetting._earlier, there.hot.states
    looked_for = past.users

    def read_meanwhile() -> list[str]:
        states._known.put(KNOWN, b"", NO_STATE)  # type: ignore[attr-defined]
        return looked_for()

    async def use() -> None:
        async with answering(here, there):
            await here.forgetting.forget("u1")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(past, "users", read_meanwhile)
                await there.forgetting.catch_up()
            assert (list(past(KNOWN)), states.users_held()) == ([], [])

    asyncio.run(use())


def test_engines_are_told_again_as_a_question_may_have_been_under_way(place: Place) -> None:
    here, there = place.gateway("here"), place.gateway("there")

    async def use() -> None:
        async with answering(here, there):
            await here.forgetting.forget("ada")
            await there.forgetting.catch_up()
            await until(lambda: told(place) == {digest_of("ada"): 2})
            for rounds, times in ((1, 2), (3, 4)):
                for _ in range(rounds):
                    for one in (here, there):
                        await one.forgetting._tell()
                for one in (here, there):
                    await one.engine.forget([str(times)])  # comes behind all that was told
                await until(lambda: told(place)[str(times)] == 2)  # noqa: B023
                assert told(place)[digest_of("ada")] == times
            await there.forgetting.forget("bob")
            await until(lambda: told(place)[digest_of("bob")] == 1)

    asyncio.run(use())


def test_who_follows_goes_on_where_the_database_was_down(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = place.gateway("here"), place.gateway("there")
    monkeypatch.setattr(forgetting, "_FOLLOW_SECONDS", 0.01)
    forgotten, refused = there.users.forgotten, list[int]()

    def refusing(after: int) -> Forgotten:
        if len(refused) < 3:
            refused.append(after)
            raise StoreUnavailableError("it is down")
        return forgotten(after)

    async def use() -> None:
        async with answering(here, there):
            await shown(there, KNOWN)
            await here.forgetting.forget("u1")
            monkeypatch.setattr(there.users, "forgotten", refusing)
            following = asyncio.create_task(there.forgetting.follow())
            await until(lambda: remembered(there) == set())
            following.cancel()
            assert len(refused) == 3

    asyncio.run(use())


@pytest.mark.parametrize("heard", ["by its mark", "from the database"])
def test_a_worker_that_never_read_the_record_begins_nothing_anew(place: Place, heard: str) -> None:
    here, states = place.gateway("here"), open_states(place)

    async def use() -> None:
        async with answering(here):
            await here.forgetting.forget("u1")
            if heard == "from the database":
                mark = f"asterism:forgotten:{digest_of('u1')}"
                assert states._hot.client.call(lambda redis: redis.delete(mark)) == 1, "as it is gone after a day"
                states._forgotten.catch_up()
            states([Arrival(event(1, "tents-01", visitor=KNOWN), Offset("p", 5))])
            assert await items_of(here, KNOWN) == ["tents-01"]

    asyncio.run(use())
    states.close()


def test_what_is_surely_from_before_is_not_brought_back_and_what_may_be_new_is(place: Place) -> None:
    here, states = place.gateway("here"), open_states(place)
    published = {"mugs-00": NOW - APART_SECONDS - 1, "mugs-01": NOW - APART_SECONDS, "mugs-02": None, "tents-01": NOW}
    batch = [
        Arrival(event(number, item_id), Offset("p", number), at)
        for number, (item_id, at) in enumerate(published.items())
    ]

    async def use() -> None:
        async with answering(here):
            await here.forgetting.forget("ada")
            states._forgotten.catch_up()
            states(batch)
            assert await items_of(here, ADA) == ["mugs-01", "mugs-02", "tents-01"]
            states.forget("ada")  # the record, behind what came before it
            states(batch[3:])
            assert await items_of(here, ADA) == ["tents-01"]

    asyncio.run(use())
    states.close()


def open_states(place: Place) -> States:
    """The group of states of a worker that hears of others only when a test says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForgottenUsers, "start", lambda _: None)
        return running._states(WorkerSettings(place.bundle, place.folder / "worker", place.stores), place.stores)


def told(place: Place) -> Counter[str]:
    """Of each digest how often the engines of all gateways were told it."""
    file = place.folder / FORGOTTEN_FILE
    return Counter(file.read_text().split() if file.exists() else ())


def _unavailable(*_: object) -> None:
    raise StoreUnavailableError("it is down")
