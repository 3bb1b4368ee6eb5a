"""One conformance suite for users and behaviours on every database."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asterism.core.errors import DataError, UnknownIdError
from asterism.core.records import Action
from asterism.stores.event_log import Event
from asterism.stores.json_lines import export_users, import_users
from asterism.stores.sql_database import Database
from asterism.stores.sql_users import SqlUsers
from asterism.stores.user_state import Visitor
from asterism.stores.users import Forgotten, User, Users, digest_of, those_meant
from contracts.postgres_server import Postgres

Opener = Callable[[], Users]
ADA = User("ada", {"age": 36, "city": "é⭐'; --", "member": True, "score": 0.5, "note": None})


def event(number: int, user_id: str | None = "ada", session_id: str | None = "s") -> Event:
    return Event(f"e{number}", f"i{number}", Action.RATING, number, user_id, session_id, 4.5, "home", f"a{number}")


@pytest.fixture(params=["sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the users of one place, again and again."""
    url = f"sqlite:///{tmp_path / 'users.db'}"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.emptied()
    return lambda: SqlUsers(Database(url, timeout_seconds=60.0))


def test_a_user_comes_out_as_it_went_in_also_after_reopening(opener: Opener) -> None:
    users = opener()
    users.upsert([User("ada", {"age": 1}), User("bob")])
    users.upsert([ADA])
    users.close()
    again = opener()
    assert (again.get("ada"), again.get("bob"), len(again)) == (ADA, User("bob"), 2)
    for nobody in ("nobody", "\x00"):
        with pytest.raises(UnknownIdError, match="is not known"):
            again.get(nobody)
    again.close()


def test_a_behaviour_is_kept_once_and_a_history_is_the_newest_in_order(opener: Opener) -> None:
    users = opener()
    assert users.record([event(3), event(1), event(3), event(2)]) == [True, True, False, True]
    assert users.record([event(2), event(4)]) == [False, True]
    assert users.record([]) == []
    assert users.history(Visitor("ada"), 3) == [event(2), event(3), event(4)]
    assert users.history(Visitor("ada", "other"), 1) == [event(4)]
    users.close()


def test_users_and_sessions_have_histories_of_their_own(opener: Opener) -> None:
    users = opener()
    anonymous = event(1, user_id=None, session_id="ada")
    assert users.record([event(1), anonymous]) == [True, True]
    assert users.history(Visitor("ada"), 9) == [event(1)]
    assert users.history(Visitor(session_id="ada"), 9) == [anonymous]
    with pytest.raises(ValueError, match="a user or a session"):
        users.record([event(2, user_id=None, session_id=None)])
    users.close()


def test_who_can_be_in_no_database_has_no_history(opener: Opener) -> None:
    users = opener()
    assert users.history(Visitor("a\x00b"), 9) == []
    users.close()


def test_a_forgotten_user_leaves_nothing(opener: Opener) -> None:
    users = opener()
    users.upsert([ADA])
    users.record([event(1), event(1, user_id="bob")])
    assert (users.forget("ada", 9), users.forget("ada", 9)) == (True, False)
    assert (len(users), users.history(Visitor("ada"), 9)) == (0, [])
    assert users.history(Visitor("bob"), 9) == [event(1, user_id="bob")]
    users.upsert([ADA])
    users.record([event(2)])
    assert (users.forget_behaviours("ada"), users.forget_behaviours("ada")) == (True, False)
    assert (users.get("ada"), users.history(Visitor("ada"), 9)) == (ADA, [])
    assert (users.forgotten().at_seconds, users.forget("\x00", 9)) == ({digest_of("ada"): 9}, False)
    users.close()


def test_who_was_forgotten_is_told_once_to_whoever_follows(opener: Opener) -> None:
    users, others = opener(), opener()
    first = users.forgotten()
    assert users.forgotten(first.number) == Forgotten({}, first.number)
    users.forget("ada", 9)
    others.forget("bob", 3)
    both = others.forgotten(first.number)
    assert both.at_seconds == {digest_of("ada"): 9, digest_of("bob"): 3}
    assert users.forgotten(both.number).at_seconds == {}
    others.forget("ada", 9)
    again = users.forgotten(both.number)
    assert (again.at_seconds, again.number > both.number) == ({digest_of("ada"): 9}, True), "in the same second too"
    assert users.forgotten().at_seconds == both.at_seconds
    for one in (users, others):
        one.close()


def test_of_many_who_are_forgotten_at_once_none_is_passed_over(opener: Opener) -> None:
    users = opener()
    heard: list[str] = []
    number = users.forgotten().number
    with ThreadPoolExecutor(4) as pool:
        forgetting = [pool.submit(users.forget, f"u{one}", one) for one in range(40)]
        while not all(one.done() for one in forgetting) or users.forgotten(number).at_seconds:
            fresh = users.forgotten(number)
            heard += fresh.at_seconds
            number = fresh.number
    assert sorted(heard) == sorted(digest_of(f"u{one}") for one in range(40))
    users.close()


def test_those_who_are_meant_are_found_by_their_digests() -> None:
    held = [f"u{number}" for number in range(1_200)]
    assert those_meant({digest_of("u7"), digest_of("u1199"), digest_of("nobody")}, held) == {"u7", "u1199"}


def test_no_byte_of_a_forgotten_user_is_left_in_the_file(tmp_path: Path) -> None:
    users = SqlUsers(Database(f"sqlite:///{tmp_path / 'shop.db'}"))
    many = [User(f"gone-{number}", {"city": "Vega"}) for number in range(300)]
    users.upsert(many)
    users.record([event(number, user_id="gone-7") for number in range(300)])
    for one in many:
        users.forget(one.user_id, 9)
    assert not [path.name for path in tmp_path.iterdir() if b"gone-7" in path.read_bytes()], "and no log beside it"
    users.close()


def test_an_export_goes_on_behind_an_id(opener: Opener) -> None:
    users = opener()
    users.upsert([User("a"), User("b"), User("c")])
    assert [one.user_id for one in users.export(after="a")] == ["b", "c"]
    users.close()


def test_all_or_none_of_a_batch_is_kept(opener: Opener) -> None:
    users = opener()
    with pytest.raises(DataError, match=r"does not take a value \(.*; correct it"):
        users.record([event(1), Event("e2", "i", Action.CLICK, 2**70, "ada")])
    assert users.history(Visitor("ada"), 9) == []
    users.close()


def test_clients_that_record_the_same_events_keep_each_once(opener: Opener) -> None:
    users = opener()
    events = [event(number, user_id=f"u{number % 5}") for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda turn: users.record(events if turn % 2 else events[::-1]), range(8)))
    assert sum(map(sum, verdicts)) == 40
    assert sum(len(users.history(Visitor(f"u{number}"), 99)) for number in range(5)) == 40
    users.close()


def test_what_was_exported_comes_back(opener: Opener) -> None:
    users = opener()
    users.upsert([ADA, *(User(f"u{number}", {"n": number}) for number in range(1500))])
    stream = io.StringIO()
    assert export_users(users, stream) == 1501
    before = list(users.export())
    users.upsert(User(user.user_id) for user in before)
    assert import_users(users, stream.getvalue().splitlines()) == 1501
    assert list(users.export()) == before
    with pytest.raises(DataError, match=r"shop:1, field `tags`: \['x'\] is neither text nor number"):
        import_users(users, ['{"user_id": "x", "tags": ["x"]}'], "shop")
    with pytest.raises(DataError, match="shop:1, field `user_id`"):
        import_users(users, ['{"user_id": ""}'], "shop")
    with pytest.raises(DataError, match="shop:1, field `age`: inf is no finite number"):
        import_users(users, ['{"user_id": "x", "age": 1e999}'], "shop")
    users.close()
