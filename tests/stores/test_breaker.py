"""Circuit breakers, by hand and against a slow twin that remembers every call."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.clock import ManualClock
from asterism.core.errors import StorageError, StoreUnavailableError, UnknownIdError
from asterism.stores.breaker import BUCKETS, BreakerSettings, BreakerState, Call, CircuitBreaker
from asterism.stores.reaching import ONCE, Reach

SETTINGS = BreakerSettings(window_seconds=10.0, least_calls=4, bad_share=0.5, slow_seconds=2.0, open_seconds=3.0)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def begun(breaker: CircuitBreaker) -> Call:
    call = breaker.begin()
    assert call is not None
    return call


def calls(breaker: CircuitBreaker, *failed: bool) -> None:
    for one in failed:
        breaker.end(begun(breaker), failed=one)


def test_it_opens_at_the_share_of_enough_calls_and_closes_after_one_good_try() -> None:
    clock = ManualClock(100.0)
    breaker = CircuitBreaker(SETTINGS, clock.now)
    calls(breaker, True, True, True)
    assert breaker.state is CLOSED, "three are not enough"
    calls(breaker, False)
    assert breaker.state is OPEN
    clock.advance(2.9)
    assert breaker.begin() is None
    clock.advance(0.2)
    probe = begun(breaker)
    assert (breaker.state, breaker.begin()) == (HALF_OPEN, None)
    breaker.end(probe, failed=False)
    assert breaker.state is CLOSED
    calls(breaker, True, True, True)
    assert breaker.state is CLOSED, "what was before it opened is forgotten"


def test_a_bad_try_leaves_it_open_for_another_while() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(SETTINGS, clock.now)
    calls(breaker, *[True] * 4)
    clock.advance(3.0)
    breaker.end(begun(breaker), failed=True)
    assert breaker.state is OPEN
    clock.advance(2.9)
    assert breaker.begin() is None
    clock.advance(0.1)
    assert breaker.begin() is not None


def test_what_hangs_counts_as_soon_as_it_is_slow_and_only_once() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(SETTINGS, clock.now)
    hanging = [begun(breaker) for _ in range(4)]
    clock.advance(1.9)
    assert breaker.state is CLOSED
    clock.advance(0.1)
    assert breaker.state is OPEN
    clock.advance(3.0)
    probe = begun(breaker)
    for one in hanging:
        breaker.end(one, failed=True)
    assert breaker.state is HALF_OPEN, "a call from before says nothing of now"
    clock.advance(2.0)
    assert breaker.state is OPEN, "the try hung too"
    breaker.end(probe, failed=False)
    assert breaker.state is OPEN


def test_a_call_from_before_it_opened_decides_nothing() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(BreakerSettings(10.0, 4, 0.5, slow_seconds=60.0, open_seconds=3.0), clock.now)
    good, bad = begun(breaker), begun(breaker)
    calls(breaker, *[True] * 4)
    clock.advance(2.0)
    breaker.end(bad, failed=True)
    clock.advance(1.0)
    probe = begun(breaker)
    breaker.end(good, failed=False)
    assert breaker.state is HALF_OPEN
    breaker.end(probe, failed=False)
    assert breaker.state is CLOSED


def test_what_lies_behind_the_window_is_forgotten() -> None:
    clock = ManualClock(5.0)
    breaker = CircuitBreaker(SETTINGS, clock.now)
    calls(breaker, True, True, True)
    clock.advance(10.0)
    calls(breaker, True, False, False)
    assert breaker.state is CLOSED
    calls(breaker, True)
    assert breaker.state is OPEN


def test_a_try_that_was_abandoned_leaves_the_next_one_to_try() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(SETTINGS, clock.now)
    calls(breaker, *[True] * 4)
    clock.advance(3.0)
    breaker.abandon(begun(breaker))
    probe = begun(breaker)
    breaker.end(probe, failed=False)
    assert breaker.state is CLOSED
    for _ in range(9):
        breaker.abandon(begun(breaker))
    calls(breaker, True, True, True)
    assert breaker.state is CLOSED, "what was abandoned is no call"


@dataclass
class Remembered:
    """A call of the twin: when it began and, where it is known, when it was told and how."""

    begun: float
    era: int
    told: bool = False


class SlowTwin:
    """The same rules over lists of everything, counted anew each time."""

    def __init__(self) -> None:
        self.calls: list[Remembered] = []
        self.outcomes: list[tuple[float, bool]] = []
        self.era = 0
        self.opened: float | None = None
        self.probe: Remembered | None = None

    def state(self, now: float) -> BreakerState:
        for one in sorted((one for one in self.calls if not one.told), key=lambda one: one.begun):
            if one.begun + SETTINGS.slow_seconds <= now:
                self._tell(one, one.begun + SETTINGS.slow_seconds, True)
        if self.opened is None:
            return CLOSED
        return HALF_OPEN if self.probe is not None else OPEN

    def begin(self, now: float) -> Remembered | None:
        state = self.state(now)
        if state is HALF_OPEN or (self.opened is not None and now < self.opened + SETTINGS.open_seconds):
            return None
        call = Remembered(now, self.era)
        self.calls.append(call)
        if self.opened is not None:
            self.probe = call
        return call

    def end(self, call: Remembered, now: float, failed: bool) -> None:
        self.state(now)
        if not call.told:
            self._tell(call, now, failed)

    def abandon(self, call: Remembered, now: float) -> None:
        self.state(now)
        call.told = True
        if self.probe is call:
            self.probe = None

    def _tell(self, call: Remembered, at: float, is_bad: bool) -> None:
        call.told = True
        if call.era != self.era:
            return
        if self.probe is call:
            self.probe = None
            self.era += 1
            self.outcomes = []
            self.opened = at if is_bad else None
            return
        self.outcomes.append((at, is_bad))
        width = SETTINGS.window_seconds / BUCKETS
        seen = [bad for when, bad in self.outcomes if int(when / width) > int(at / width) - BUCKETS]
        if len(seen) >= SETTINGS.least_calls and sum(seen) >= SETTINGS.bad_share * len(seen):
            self.opened = at
            self.era += 1
            self.outcomes = []


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "begin", "good", "bad", "bad", "abandon", "look"]),
        st.integers(0, 40),  # which of the calls under way
        st.sampled_from([0.0, 0.0, 0.125, 0.5, 1.0, 3.0, 11.0]),  # seconds that pass before
    ),
    max_size=60,
)


@given(steps=steps)
@settings(max_examples=400)
def test_it_does_what_its_slow_twin_does(steps: list[tuple[str, int, float]]) -> None:
    clock = ManualClock(1000.0)
    breaker, twin = CircuitBreaker(SETTINGS, clock.now), SlowTwin()
    pairs: list[tuple[Call, Remembered]] = []
    for what, which, seconds in steps:
        clock.advance(seconds)
        if what == "begin":
            one, other = breaker.begin(), twin.begin(clock.now())
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                pairs.append((one, other))
        elif pairs and what != "look":
            call, remembered = pairs.pop(which % len(pairs))
            if what == "abandon":
                breaker.abandon(call)
                twin.abandon(remembered, clock.now())
            else:
                breaker.end(call, failed=what == "bad")
                twin.end(remembered, clock.now(), what == "bad")
        assert breaker.state is twin.state(clock.now())


def test_a_store_that_is_down_is_not_asked_for_a_second_and_one_that_refuses_is() -> None:
    clock = ManualClock()
    asked: list[float] = []

    def reach() -> Reach:
        breaker = CircuitBreaker(monotonic=clock.now)
        return Reach("Redis", "redis://a", (OSError,), (KeyError,), ONCE, breaker=breaker)

    def down() -> None:
        asked.append(clock.now())
        raise OSError("refused")

    store = reach()
    for _ in range(15):
        with pytest.raises(StoreUnavailableError):
            store.call(down)
    assert len(asked) == 10
    with pytest.raises(StoreUnavailableError, match=r"cannot be reached \(it failed too often just now"):
        store.call(down)
    clock.advance(1.0)
    assert store.call(lambda: "here") == "here"
    for error, kind in ((KeyError("no"), StorageError), (UnknownIdError("no"), UnknownIdError)):

        def refuse(error: Exception = error) -> None:
            asked.append(clock.now())
            raise error

        before = len(asked)
        store = reach()
        for _ in range(15):
            with pytest.raises(kind):
                store.call(refuse)
        assert len(asked) == before + 15
