"""One conformance suite for every store of user states, then what is particular to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from asterism.core.errors import StorageError, StoreUnavailableError
from asterism.core.records import Action
from asterism.stores.reaching import Tries
from asterism.stores.redis_client import RedisClient
from asterism.stores.redis_states import RedisUserStates
from asterism.stores.user_state import (
    NO_STATE,
    LocalUserStates,
    Offset,
    RecentEvent,
    UserState,
    UserStates,
    Visitor,
    warm,
)
from contracts.redis_server import REDIS, start_redis
from serving.running import wait_until

ADA = Visitor(user_id="ada")
ODD_NAMES = [
    "",
    " ",
    "{",
    "}",
    "{}",
    "a}b",
    "%7D",
    "%",
    "*",
    "ada\r\nDEL x",
    "é⭐",
    "\x00",
    "'; DROP TABLE users; --",
    "x" * 5000,
]


def click(timestamp: int, item_id: str) -> RecentEvent:
    return RecentEvent(timestamp, item_id, Action.CLICK)


@pytest.fixture(params=["local", "redis", "cluster"])
def states(request: pytest.FixtureRequest, prefix: str) -> Iterator[UserStates]:
    if request.param == "local":
        yield LocalUserStates(max_recent=3, max_ids=4)
        return
    url = request.getfixturevalue({"redis": "redis_url", "cluster": "cluster_url"}[request.param])
    client = RedisClient(f"{url}?prefix={prefix}", timeout_seconds=30.0)
    yield RedisUserStates(client, max_recent=3, max_ids=4)
    client.close()


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


def test_sampled_users_are_known_and_stable(states: UserStates) -> None:
    assert warm(states, ((f"u{number}", click(1, "a")) for number in range(10))) == 10
    states.apply(Visitor(session_id="anonymous"), click(1, "a"))
    assert len(set(states.sample_users(3))) == 3
    assert states.sample_users(3) == states.sample_users(3)
    assert sorted(states.sample_users(100)) == [f"u{number}" for number in range(10)]
    assert (states.sample_users(0), len(states)) == ([], 11)


def test_a_forgotten_visitor_is_a_stranger(states: UserStates) -> None:
    states.apply(ADA, click(1, "a"))
    states.forget(ADA)
    assert (states.get(ADA), states.known(ADA), states.sample_users(5), len(states)) == (NO_STATE, False, [], 0)
    states.forget(ADA)


def test_what_the_publisher_brought_ahead_is_not_taken_again_from_the_bus(states: UserStates) -> None:
    disliked, clicked = RecentEvent(1, "a", Action.DISLIKE), click(2, "a")
    first, second, third = (Offset("feedback/0", number) for number in (4, 5, 6))
    assert states.apply(ADA, clicked, second, ahead=True), "published by another gateway, and faster"
    assert states.apply(ADA, disliked, first, ahead=True)
    assert not states.apply(ADA, disliked, first, ahead=True)
    states.apply(ADA, click(3, "a"))
    before = states.get(ADA)
    assert [states.apply(ADA, disliked, first), states.apply(ADA, clicked, second)] == [False, False]
    assert states.get(ADA) == before
    assert not states.apply(ADA, disliked, second, ahead=True), "the consumer was there already"
    assert states.apply(ADA, click(9, "b"), third)
    assert [one.item_id for one in states.get(ADA).recent] == ["a", "a", "b"]


def test_a_bus_that_begins_anew_is_heard_though_the_state_knows_later_offsets(states: UserStates) -> None:
    for number in range(5):
        states.apply(ADA, click(number, f"old{number}"), Offset("p", number))
    assert not states.apply(ADA, click(4, "old4"), Offset("p", 4), ahead=True), "the consumer was faster"
    assert not states.apply(ADA, click(0, "old0"), Offset("p", 0)), "and may come twice"
    skip = RecentEvent(10, "x", Action.SKIP)
    assert states.apply(ADA, click(11, "b"), Offset("p", 1), ahead=True)
    assert states.apply(ADA, skip, Offset("p", 2), ahead=True)
    assert not states.apply(ADA, click(11, "b"), Offset("p", 1))
    assert not states.apply(ADA, skip, Offset("p", 2))
    assert states.apply(ADA, click(12, "c"), Offset("p", 3))
    state = states.get(ADA)
    assert ([one.item_id for one in state.recent], state.negative) == (["old4", "b", "c"], ("x",))


def test_what_was_unwanted_and_then_wanted_is_no_sign_of_a_bus_that_begins_anew(states: UserStates) -> None:
    """The consumer was faster than the gateway, which brings both once more."""
    dislike = RecentEvent(3, "a", Action.DISLIKE)
    for number, one in enumerate((dislike, click(5, "a"), click(6, "b"))):
        states.apply(ADA, one, Offset("p", number))
    before = states.get(ADA)
    assert not states.apply(ADA, dislike, Offset("p", 0), ahead=True)
    assert not states.apply(ADA, click(5, "a"), Offset("p", 1), ahead=True)
    assert states.get(ADA) == before


def test_so_many_are_taken_ahead_and_the_consumer_brings_the_rest(states: UserStates) -> None:
    taken = [states.apply(ADA, click(number, f"i{number}"), Offset("p", number), ahead=True) for number in range(6)]
    assert taken == [True] * 4 + [False] * 2
    brought = [states.apply(ADA, click(number, f"i{number}"), Offset("p", number)) for number in range(6)]
    assert brought == [False] * 4 + [True] * 2


def test_a_delivery_that_comes_twice_changes_nothing(states: UserStates) -> None:
    disliked, clicked = RecentEvent(1, "a", Action.DISLIKE), click(2, "a")
    for number, event in enumerate((disliked, clicked)):
        assert states.apply(ADA, event, Offset("feedback/0", number))
    before = states.get(ADA)
    for number, event in enumerate((disliked, clicked)):
        assert not states.apply(ADA, event, Offset("feedback/0", number))
    assert states.get(ADA) == before == NO_STATE.__class__((clicked,), frozenset("a"), (), revision=2)
    for number, (timestamp, item_id) in enumerate(((5, "b"), (6, "c"), (1, "old")), start=2):
        assert states.apply(ADA, click(timestamp, item_id), Offset("feedback/0", number))
    assert not states.apply(ADA, click(1, "old"), Offset("feedback/0", 4)), "told by its offset, as it left the history"
    assert states.apply(ADA, click(3, "b"), Offset("feedback/1", 0)), "offsets of another partition are counted apart"


def test_every_change_is_a_revision_and_nothing_else_is(states: UserStates) -> None:
    steps = [
        (click(1, "a"), True),
        (click(1, "a"), False),
        (RecentEvent(2, "b", Action.IMPRESSION), False),
        (RecentEvent(3, "b", Action.DISLIKE), True),
        (RecentEvent(4, "c", Action.DISLIKE), True),
        (RecentEvent(5, "b", Action.DISLIKE), True),  # known, but the newest of the unwanted now
        (click(6, "b"), True),
    ]
    assert states.get(ADA).revision == 0
    before = states.get(ADA)
    for event, changes in steps:
        states.apply(ADA, event)
        after = states.get(ADA)
        assert (after.revision != before.revision, after != before) == (changes, changes)
        before = after
    states.apply(Visitor("bob"), click(1, "a"))
    assert states.get(ADA).revision == before.revision != 0
    states.forget(ADA)
    assert states.get(ADA).revision == 0
    states.apply(ADA, click(1, "a"))
    assert states.get(ADA).revision not in {0, before.revision}, "a state begun anew has no revision of the old one"


def test_a_snapshot_is_made_once_between_two_changes(states: UserStates) -> None:
    states.apply(ADA, click(1, "a"))
    first = states.get(ADA)
    assert states.get(Visitor("ada", "phone")) is first is states.last_known(ADA)
    states.apply(ADA, RecentEvent(2, "b", Action.SKIP))
    second = states.get(ADA)
    assert (first.left_out, second.left_out) == ({"a"}, {"a", "b"})
    assert second is not first
    assert states.last_known(Visitor("a stranger")) == states.last_known(Visitor()) == NO_STATE


def test_many_states_are_read_as_each_alone(states: UserStates) -> None:
    visitors = [ADA, Visitor("bob"), Visitor(session_id="ada"), Visitor("a stranger"), Visitor("ada", "phone")]
    states.apply(ADA, click(1, "a"))
    states.apply(Visitor(session_id="ada"), click(2, "b"))
    states.get(ADA)  # known here by now, and of the next only the version is asked
    for _ in range(2):
        found = states.get_many(visitors)
        assert found == [states.get(one) for one in visitors]
        assert [one.revision for one in found if isinstance(one, UserState)] == [
            states.get(one).revision for one in visitors
        ]
        states.apply(ADA, click(3, "c"))
    assert states.get_many([]) == []
    with pytest.raises(ValueError, match="a user or a session"):
        states.get_many([ADA, Visitor()])


def test_a_state_tells_whether_it_took_an_event_in(states: UserStates) -> None:
    disliked = RecentEvent(5, "b", Action.DISLIKE)
    assert not states.get(ADA).holds(click(1, "a"))
    states.apply(ADA, click(2, "a"))
    assert states.get(ADA).holds(click(2, "a"))
    assert not states.get(ADA).holds(click(3, "a")), "the item was met, but not by this event"
    assert not states.get(ADA).holds(disliked)
    states.apply(ADA, disliked)
    assert states.get(ADA).holds(disliked)
    states.apply(ADA, click(6, "b"))
    assert states.get(ADA).holds(disliked), "a later change of mind has lifted it"
    states.apply(ADA, click(7, "c"))
    states.apply(ADA, click(8, "d"))
    assert states.get(ADA).holds(click(2, "a")), "older than all that is kept, but its item was met"
    assert not states.get(ADA).holds(click(2, "e"))


def test_a_state_came_of_its_own_earlier_ones_alone(states: UserStates) -> None:
    states.apply(ADA, click(1, "a"))
    first = states.get(ADA)
    states.apply(ADA, click(2, "b"))
    second = states.get(ADA)
    assert (first.came_of(first.revision), second.came_of(first.revision)) == (True, True)
    assert not first.came_of(second.revision)
    states.forget(ADA)
    assert not states.get(ADA).came_of(second.revision)
    assert not states.get(ADA).came_of(0)
    states.apply(ADA, click(1, "a"))
    assert not states.get(ADA).came_of(second.revision)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_a_name_like_any_other(states: UserStates, name: str) -> None:
    for visitor in (Visitor(user_id=name), Visitor(session_id=name)):
        assert states.apply(visitor, RecentEvent(1, name, Action.RATING, 4.5, scene=name, device=name))
        assert states.get(visitor).recent == (RecentEvent(1, name, Action.RATING, 4.5, name, name),)
    assert states.sample_users(5) == [name]
    assert len(states) == 2


def test_clients_that_write_at_once_lose_nothing(states: UserStates) -> None:
    with ThreadPoolExecutor(6) as pool:
        changed = list(pool.map(lambda number: states.apply(ADA, click(number % 20, f"i{number % 20}")), range(60)))
    assert sum(changed) >= 20
    assert [event.timestamp for event in states.get(ADA).recent] == [17, 18, 19]


EVENTS = st.lists(
    st.builds(
        RecentEvent,
        st.integers(0, 5),
        st.sampled_from("abcdef"),
        st.sampled_from([Action.CLICK, Action.PURCHASE, Action.SKIP, Action.DISLIKE, Action.IMPRESSION]),
        st.none() | st.floats(allow_nan=False),
    ),
    max_size=12,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_every_store_agrees_with_the_one_in_memory(states: UserStates, events: list[RecentEvent]) -> None:
    twin = LocalUserStates(max_recent=3, max_ids=4)
    states.forget(ADA)
    assert [states.apply(ADA, one) for one in events] == [twin.apply(ADA, one) for one in events]
    assert states.get(ADA) == twin.get(ADA)


def test_a_state_leaves_after_its_time_to_live(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    states = RedisUserStates(client, ttl_seconds=1000)
    states.apply(ADA, click(1, "a"))
    key = client.key("state", ADA)
    assert 990_000 < client.call(lambda redis: redis.pttl(key)) <= 1_000_000  # type: ignore[attr-defined]
    client.call(lambda redis: redis.pexpire(key, 1))  # type: ignore[attr-defined]
    states.apply(ADA, click(2, "b"))
    assert client.call(lambda redis: redis.pttl(key)) > 990_000  # type: ignore[attr-defined]
    client.close()


def test_what_another_client_wrote_is_read_though_a_snapshot_is_kept(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    ours, theirs = RedisUserStates(client), RedisUserStates(client)
    ours.apply(ADA, click(1, "a"))
    assert ours.get(ADA).seen == {"a"}
    theirs.apply(ADA, click(2, "b"))
    assert ours.last_known(ADA).seen == {"a"}
    assert (ours.get(ADA), ours.last_known(ADA)) == (theirs.get(ADA), theirs.get(ADA))
    assert ours.get(ADA).revision == theirs.get(ADA).revision
    theirs.forget(ADA)
    assert ours.get(ADA) == ours.last_known(ADA) == NO_STATE
    client.close()


def test_a_state_that_an_older_asterism_wrote_gets_a_revision_by_its_next_change(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    states, key = RedisUserStates(client), client.key("state", ADA)
    older = msgspec.msgpack.encode([[click(1, "a")], ["a"], [], {}])
    write = "return redis.call('HSET', KEYS[1], 'value', ARGV[1], 'version', 'v')"
    client.call(lambda redis: redis.eval(write, 1, key, older))
    assert (states.get(ADA).seen, states.get(ADA).revision) == ({"a"}, 0)
    states.apply(ADA, click(2, "b"))
    assert states.get(ADA).revision > 0
    client.close()


def test_a_value_that_is_no_state_is_named(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    key = client.key("state", ADA)
    client.call(lambda redis: redis.eval("return redis.call('HSET', KEYS[1], 'value', 'junk')", 1, key))
    with pytest.raises(StorageError, match=f"a state that is none .* delete the keys {prefix}:state:"):
        RedisUserStates(client).get(ADA)
    client.call(lambda redis: redis.eval("redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'x')", 1, key))
    with pytest.raises(StorageError, match=r"refused .*WRONGTYPE"):
        RedisUserStates(client).get(ADA)
    states = RedisUserStates(client)
    states.apply(Visitor("bob"), click(1, "a"))
    wrong, good = states.get_many([ADA, Visitor("bob")])
    assert isinstance(wrong, StorageError)
    assert "WRONGTYPE" in str(wrong)
    assert good == states.get(Visitor("bob")), "the others' are read all the same"
    client.close()


@pytest.mark.skipif(REDIS is None, reason="no redis-server on this machine (apt-get install redis-server)")
def test_what_was_acknowledged_survives_kill_9_and_a_dead_redis_is_a_sentence_in_time(tmp_path: Path) -> None:
    server, port = start_redis(tmp_path)
    client = RedisClient(f"redis://127.0.0.1:{port}/0", timeout_seconds=1.0, tries=Tries(2))
    patient = RedisClient(f"redis://127.0.0.1:{port}/0", timeout_seconds=30.0)
    states, patient_states = RedisUserStates(client), RedisUserStates(patient)
    with server:
        for number in range(20):
            patient_states.apply(ADA, click(number, f"i{number}"))
        before = patient_states.get(ADA)
        server.freeze()
        began = monotonic()
        with pytest.raises(StoreUnavailableError, match=rf"Redis at redis://127.0.0.1:{port}/0 cannot be .*start it"):
            states.apply(ADA, click(99, "lost"))
        assert monotonic() - began < 20
        server.kill()
        with pytest.raises(StoreUnavailableError, match="refused"):
            states.get(ADA)
        server.start()
        assert patient_states.get(ADA) == before
    client.close()
    patient.close()


def test_a_redis_without_room_is_told_apart_and_what_it_holds_is_read(tmp_path: Path) -> None:
    server, port = start_redis(tmp_path)
    with server, Redis(port=port) as redis:
        client = RedisClient(f"redis://127.0.0.1:{port}/0", timeout_seconds=30.0)
        states = RedisUserStates(client)
        states.apply(ADA, click(1, "a"))
        redis.config_set("maxmemory", 1)
        with pytest.raises(StorageError, match=r"Redis at redis://127\.0\.0\.1:\d+/0 has no room \(.*OOM command"):
            states.apply(ADA, click(2, "b"))
        assert states.get(ADA).recent == (click(1, "a"),)
        redis.config_set("maxmemory", 0)
        assert states.apply(ADA, click(2, "b"))
        client.close()


def test_a_password_of_any_signs_opens_a_redis_and_a_cluster(tmp_path: Path) -> None:
    server, port = start_redis(tmp_path, "--cluster-enabled", "yes")
    with server, Redis(port=port) as redis:
        redis.execute_command("CLUSTER ADDSLOTS", *range(16_384))
        wait_until(lambda: redis.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        redis.config_set("requirepass", "p@ss/w?rd")
        for kind, place in (("redis", "/0"), ("redis+cluster", "")):
            client = RedisClient(f"{kind}://:p%40ss%2Fw%3Frd@127.0.0.1:{port}{place}", timeout_seconds=30.0)
            states = RedisUserStates(client)
            states.apply(ADA, click(1, kind))
            assert states.get(ADA).recent[-1].item_id == kind
            client.close()


def test_a_cluster_that_is_not_there_is_a_sentence() -> None:
    client = RedisClient("redis+cluster://ada:secret@127.0.0.1:1", timeout_seconds=0.2, tries=Tries(2))
    with pytest.raises(StoreUnavailableError, match=r"redis\+cluster://ada:\*\*\*@127.0.0.1:1 cannot be reached"):
        RedisUserStates(client).get(ADA)
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        RedisUserStates(client).get_many([ADA])
    client.close()


def test_who_another_process_forgot_has_no_past_here_any_more(redis_url: str, prefix: str) -> None:
    past = {ADA: [click(1, "a"), click(2, "b")], Visitor("bob"): [click(1, "c")]}
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    ours, theirs = (RedisUserStates(client, earlier=lambda one: past.get(one, ())) for _ in range(2))
    for _ in range(2):
        assert [one.seen for one in (ours.get(ADA), ours.get(Visitor("bob")))] == [{"a", "b"}, {"c"}]
    theirs.forget(ADA)
    for _ in range(2):
        assert (ours.get(ADA), ours.get(Visitor("bob")).seen) == (NO_STATE, {"c"})
    assert ours.apply(ADA, click(3, "d"))
    assert ours.get(ADA).seen == theirs.get(ADA).seen == {"d"}
    assert ours.apply(Visitor("bob"), click(3, "d"))
    assert ours.get(Visitor("bob")).seen == {"c", "d"}
    client.close()


def test_a_state_that_is_gone_is_not_taken_for_the_past(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    ours, theirs = (RedisUserStates(client, earlier=lambda _: [click(1, "a")]) for _ in range(2))
    assert ours.apply(ADA, click(2, "b"))
    assert ours.get(ADA).seen == {"a", "b"}
    theirs.forget(ADA)
    assert [ours.get(ADA) for _ in range(2)] == [NO_STATE] * 2
    client.close()


def test_a_past_that_is_heard_to_be_forgotten_is_not_answered_from_memory(redis_url: str, prefix: str) -> None:
    past = {ADA: [click(1, "a")]}
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    states = RedisUserStates(client, earlier=lambda one: past.get(one, ()))
    assert states.get(ADA).seen == states.last_known(ADA).seen == {"a"}
    assert states.users_held() == ["ada"]
    del past[ADA]
    assert states.last_known(ADA) == states.get(ADA) == NO_STATE
    assert states.users_held() == []
    client.close()


def test_copies_of_states_are_dropped_and_the_states_stay(redis_url: str, prefix: str) -> None:
    client = RedisClient(f"{redis_url}?prefix={prefix}", timeout_seconds=30.0)
    states = RedisUserStates(client)
    for visitor in (ADA, Visitor("bob"), Visitor(session_id="ada")):
        states.apply(visitor, click(1, "a"))
        states.get(visitor)
    assert states.users_held() == ["ada", "bob"]
    states.let_go(["ada", "nobody"])
    assert (states.users_held(), states.last_known(ADA)) == (["bob"], NO_STATE)
    assert states.get(ADA).seen == {"a"}
    client.close()
