"""Answers that are under way when their visitor is forgotten are void; what begins afterwards stands."""

from __future__ import annotations

import pytest

from asterism.serving.pages import PageKey, Pages
from asterism.serving.under_way import UnderWay
from asterism.stores.user_state import Visitor

ADA, BOB = Visitor("ada"), Visitor("bob")


def test_what_is_under_way_to_the_forgotten_is_void_and_nothing_else_is() -> None:
    answers = UnderWay()
    with answers.to(ADA) as first, answers.to(ADA) as beside, answers.to(BOB) as other:
        assert sorted(answers.users()) == ["ada", "bob"]
        answers.forget([ADA, Visitor("nobody")])
        with answers.to(ADA) as later:
            assert [one.is_void for one in (first, beside, other, later)] == [True, True, False, False]
        assert answers.users() == ["bob"]
    assert len(answers) == 0


def test_an_answer_that_ends_leaves_those_that_began_after_a_forgetting() -> None:
    answers = UnderWay()
    with answers.to(ADA):
        answers.forget([ADA])
        later = answers.to(ADA)
        later.__enter__()
    answers.forget([ADA])
    assert later.is_void
    later.__exit__(None, None, None)
    assert len(answers) == 0


def test_an_answer_that_fails_is_under_way_no_longer() -> None:
    answers = UnderWay()
    with pytest.raises(KeyError), answers.to(ADA):
        raise KeyError
    assert len(answers) == 0


def test_sessions_are_nobodys_users_and_an_answer_to_nobody_is_never_void() -> None:
    answers = UnderWay()
    with answers.to(None) as nobodys, answers.to(Visitor(session_id="ada")) as session:
        answers.forget([ADA])
        assert (answers.users(), len(answers)) == ([], 1)
        assert (nobodys.is_void, session.is_void) == (False, False)


def test_pages_of_some_are_deleted_at_once() -> None:
    pages = Pages()
    keys = [PageKey(one, None, scene, None, 9) for one in (ADA, BOB, Visitor(session_id="ada")) for scene in "xy"]
    for key in keys:
        pages.keep(key, None)  # type: ignore[arg-type]
    assert pages.users() == ["ada", "ada", "bob", "bob"]
    pages.forget({ADA, Visitor("nobody")})
    assert list(pages._kept) == keys[2:]
