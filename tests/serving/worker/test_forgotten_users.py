"""A worker hears who was forgotten, whoever read the record, and drops what it holds of them."""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from asterism.core.errors import StoreUnavailableError
from asterism.core.records import Action
from asterism.serving.features.earlier import EarlierEvents
from asterism.serving.hot_state import PastEvent
from asterism.serving.ports import EngineHandle
from asterism.serving.worker import forgotten
from asterism.serving.worker.forgotten import APART_SECONDS, ForgottenUsers
from asterism.serving.worker.nearline_group import Nearline
from asterism.serving.worker.visitors import StoredVisitors
from asterism.stores.opening import open_hot, open_users
from asterism.stores.user_state import RecentEvent, UserStates
from asterism.stores.users import Users, digest_of
from serving.running import wait_until

HELD = ["ada", "bob", "eve"]


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return open_users(f"sqlite:///{tmp_path / 'users.db'}")


class Copies:
    """Of `UserStates` what is asked here."""

    def __init__(self) -> None:
        self.held = list(HELD)

    def users_held(self) -> list[str]:
        return self.held

    def let_go(self, user_ids: set[str]) -> None:
        self.held = [one for one in self.held if one not in user_ids]


def heard_by(users: Users, copies: Copies, known: dict[str, int] | None = None) -> ForgottenUsers:
    earlier = EarlierEvents([PastEvent(one, RecentEvent(1, "i", Action.CLICK)) for one in HELD])
    return ForgottenUsers(users, known or {}, earlier, cast(UserStates, copies))


def test_what_is_held_of_the_forgotten_is_dropped_and_told_once(users: Users) -> None:
    copies, told = Copies(), list[Sequence[str]]()
    heard = heard_by(users, copies)
    heard.tell = told.append
    heard.catch_up()
    users.forget("ada", 100)
    users.forget("nobody", 100)
    for _ in range(2):
        heard.catch_up()
    assert (heard.earlier.users(), copies.held) == (HELD[1:], HELD[1:])
    assert [sorted(one) for one in told] == [sorted(map(digest_of, ("ada", "nobody")))]
    heard.close()


def test_whoever_could_not_be_told_is_told_later_and_following_goes_on(
    users: Users, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forgotten, "_FOLLOW_SECONDS", 0.001)
    told: queue.Queue[list[str]] = queue.Queue()
    tries = iter([TimeoutError("nobody answered"), None, None])

    def tell(digests: Sequence[str]) -> None:
        told.put(sorted(digests))
        if (error := next(tries)) is not None:
            raise error

    users.forget("ada", 100)
    heard = heard_by(users, Copies())
    heard.tell = tell
    heard.start()
    assert [told.get(timeout=60) for _ in range(2)] == [[digest_of("ada")]] * 2
    assert "is not dealt with everywhere" in caplog.text
    users.forget("bob", 100)
    assert told.get(timeout=60) == [digest_of("bob")]
    heard.close()


def test_who_was_forgotten_before_is_told_too_as_engines_may_have_been_here(users: Users) -> None:
    told = list[Sequence[str]]()
    users.forget("ada", 100)
    heard = heard_by(users, Copies(), dict(users.forgotten().at_seconds))
    heard.tell = told.append
    heard.catch_up()
    assert told == [[digest_of("ada")]]
    heard.close()


def test_what_was_published_long_before_is_past_and_nothing_else_is(users: Users) -> None:
    users.forget("ada", 1_000)
    heard = heard_by(users, Copies(), dict(users.forgotten().at_seconds))
    times = [1_000 - APART_SECONDS - 0.001, 1_000 - APART_SECONDS, 1_000.0, None]
    assert [heard.is_past("ada", at) for at in times] == [True, False, False, False]
    assert [heard.is_past("bob", 0.0), heard.is_past(None, 0.0)] == [False, False]
    users.forget("ada", 2_000)
    heard.catch_up()
    assert heard.is_past("ada", 1_500.0)
    heard.close()


def test_a_database_that_is_down_is_asked_on_and_nobody_is_passed_over(
    users: Users, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forgotten, "_FOLLOW_SECONDS", 0.01)
    copies, asked, ask = Copies(), list[int](), users.forgotten

    def refusing(after: int) -> Any:
        asked.append(after)
        if len(asked) < 3:
            raise StoreUnavailableError("it is down")
        return ask(after)

    users.forget("ada", 100)
    monkeypatch.setattr(users, "forgotten", refusing)
    heard = heard_by(users, copies)
    with caplog.at_level(logging.WARNING):
        heard.start()
        wait_until(lambda: copies.held == HELD[1:])
    heard.close()
    assert asked[:3] == [asked[0]] * 3
    assert caplog.text.count("is asked again: it is down") == 2


def test_the_engines_of_the_nearline_group_are_told(users: Users) -> None:
    told = list[Sequence[str]]()

    class Engine:
        """Of `EngineHandle` what a group without work asks."""

        status = SimpleNamespace(bundle_version="v1")

        def start(self) -> None: ...

        async def stop(self) -> None: ...

        async def wait_ready(self) -> None: ...

        async def forget(self, digests: Sequence[str]) -> None:
            told.append(digests)

    heard = heard_by(users, Copies())
    group = Nearline(
        lambda: cast(EngineHandle, Engine()), lambda: StoredVisitors(open_hot("memory"), heard), slate_items=5
    )
    users.forget("ada", 100)
    heard.catch_up()
    group.close()
    assert told == [[digest_of("ada")]]


def test_the_nearline_group_holds_no_copy_of_who_was_forgotten(users: Users) -> None:
    copies = Copies()
    hot = SimpleNamespace(states=copies, slates=open_hot("memory").slates, close=lambda: None)
    visitors = StoredVisitors(cast(Any, hot), heard_by(users, copies))
    visitors.forget("ada")
    assert copies.held == HELD[1:]
    asyncio.run(visitors.close())
