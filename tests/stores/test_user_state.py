"""One conformance suite for every store of user states."""

from __future__ import annotations

import pytest

from asterism.core.records import Action
from asterism.stores.user_state import NO_STATE, LocalUserStates, RecentEvent, UserStates, Visitor, warm

ADA = Visitor(user_id="ada")


def click(timestamp: int, item_id: str) -> RecentEvent:
    return RecentEvent(timestamp, item_id, Action.CLICK)


@pytest.fixture(params=["local"])
def states(request: pytest.FixtureRequest) -> UserStates:
    return {"local": lambda: LocalUserStates(max_recent=3, max_ids=4)}[request.param]()


def test_a_stranger_has_an_empty_state_and_asking_creates_none(states: UserStates) -> None:
    assert states.get(ADA) == NO_STATE == states.get(Visitor())
    assert (states.known(ADA), len(states)) == (False, 0)


def test_recent_events_are_kept_in_order_of_time_and_bounded(states: UserStates) -> None:
    for event in (click(20, "b"), click(10, "a"), click(30, "c"), click(40, "d")):
        assert states.apply(ADA, event)
    state = states.get(ADA)
    assert [event.item_id for event in state.recent] == ["b", "c", "d"]
    assert state.seen == {"a", "b", "c", "d"}


def test_events_of_one_second_keep_their_order_of_arrival(states: UserStates) -> None:
    for item in "cab":
        states.apply(ADA, click(5, item))
    assert [event.item_id for event in states.get(ADA).recent] == ["c", "a", "b"]


def test_the_same_event_counts_once(states: UserStates) -> None:
    assert [states.apply(ADA, click(1, "a")), states.apply(ADA, click(1, "a"))] == [True, False]
    assert len(states.get(ADA).recent) == 1


def test_negative_feedback_leaves_the_history_alone(states: UserStates) -> None:
    states.apply(ADA, RecentEvent(1, "a", Action.DISLIKE))
    states.apply(ADA, RecentEvent(2, "b", Action.SKIP))
    states.apply(ADA, RecentEvent(3, "c", Action.IMPRESSION))
    state = states.get(ADA)
    assert (state.recent, state.seen, state.negative) == ((), frozenset(), ("a", "b"))


def test_a_change_of_mind_lifts_the_negative(states: UserStates) -> None:
    states.apply(ADA, RecentEvent(1, "a", Action.DISLIKE))
    states.apply(ADA, click(2, "a"))
    assert states.get(ADA).negative == ()


def test_seen_items_are_bounded_and_the_oldest_leaves(states: UserStates) -> None:
    for number, item in enumerate("abcae"):
        states.apply(ADA, click(number, item))
    states.apply(ADA, click(9, "f"))
    assert states.get(ADA).seen == {"c", "a", "e", "f"}


def test_a_user_and_a_session_of_one_name_are_two(states: UserStates) -> None:
    states.apply(Visitor(session_id="ada"), click(1, "a"))
    assert states.get(ADA) == NO_STATE
    assert states.get(Visitor(user_id=None, session_id="ada")).seen == {"a"}


def test_a_user_is_one_over_all_sessions(states: UserStates) -> None:
    states.apply(Visitor("ada", "phone"), click(1, "a"))
    assert states.get(Visitor("ada", "laptop")).seen == {"a"}


def test_an_event_of_nobody_is_refused(states: UserStates) -> None:
    with pytest.raises(ValueError, match="a user or a session"):
        states.apply(Visitor(), click(1, "a"))


def test_sampled_users_are_spread_and_stable(states: UserStates) -> None:
    assert warm(states, ((f"u{number}", click(1, "a")) for number in range(10))) == 10
    states.apply(Visitor(session_id="anonymous"), click(1, "a"))
    assert states.sample_users(3) == ["u0", "u3", "u6"]
    assert len(states.sample_users(100)) == 10
