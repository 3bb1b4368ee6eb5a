"""The scheduler by hand, and what holds in every history of requests and batches."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.core.errors import OverloadedError
from asterism.serving.scheduling import CostModel, CostSample, Line, ScheduledBatch, Scheduler, SchedulerLimits, Ticket
from asterism.serving.scheduling.cost_model import CostShape

#: 4 ms a batch; a request 4.5 ms 200 wide, 2.5 ms 100 wide, 1.5 ms 50 wide, 1 ms 25 wide.
SHAPE = CostShape(4e-3, 5e-4, 2e-5)
WIDTHS = (200, 100, 50, 25)
#: 0.5 ms a batch; a request 0.1 ms 20 wide, 0.075 ms 10 wide.
CHEAP = CostShape(5e-4, 5e-5, 2.5e-6)
NUMBERS = itertools.count()


def make(engines: int = 1, **limits: Any) -> Scheduler:
    samples = [CostSample(rows, width, SHAPE.seconds(rows, width)) for rows in (1, 8, 32) for width in WIDTHS]
    costs = CostModel(samples)
    costs._spread = 0.0  # what is likely is what is expected: the figures below are exact
    scheduler = Scheduler(WIDTHS, costs, SchedulerLimits(**limits))
    scheduler.engines = engines
    return scheduler


def ask(scheduler: Scheduler, now: float, budget: float = 0.1, count: int = 10) -> Ticket:
    ticket = Ticket(next(NUMBERS), now, now + budget, count)
    scheduler.admit(ticket, now)
    return ticket


def begun(scheduler: Scheduler, now: float) -> ScheduledBatch:
    batch = scheduler.dispatch(now).batch
    assert batch is not None
    return batch


def test_a_lone_request_starts_at_once_at_the_full_width() -> None:
    scheduler = make()
    ticket = ask(scheduler, 1.0)
    batch = begun(scheduler, 1.0)
    assert (batch.tickets, batch.width) == ((ticket,), 200)
    assert batch.likely_end == pytest.approx(1.0 + 0.0085)
    assert scheduler.dispatch(1.0).batch is None, "the one engine is busy"


def test_a_lone_request_may_take_all_its_time_but_not_where_others_wait() -> None:
    scheduler = make()
    ask(scheduler, 0.0, budget=0.015)  # it is due after 13.5 ms and takes 8.5; half of its time would be 6.75
    assert begun(scheduler, 0.0).width == 200
    scheduler = make()
    for _ in range(2):
        scheduler.line.add(Ticket(next(NUMBERS), 0.0, 0.015, 10))
    assert begun(scheduler, 0.0).width == 25  # 6 ms


@pytest.mark.parametrize(
    ("waiting", "width", "taken"),
    [
        # Of 100 ms a batch may take 45: 4 + 9 * 4.5 = 44.5 ms, and with one more 49
        (9, 200, 9),
        (10, 100, 10),
        (16, 100, 16),  # 4 + 16 * 2.5 = 44
        (17, 50, 17),
        (27, 50, 27),  # 4 + 27 * 1.5 = 44.5
        (28, 25, 28),
        (41, 25, 41),  # 4 + 41 * 1 = 45
    ],
)
def test_the_widest_beam_that_clears_the_line_is_taken(waiting: int, width: int, taken: int) -> None:
    scheduler = make()
    for _ in range(waiting):
        scheduler.line.add(Ticket(next(NUMBERS), 0.0, 0.1, 10))
    batch = begun(scheduler, 0.02)
    assert (batch.width, len(batch.tickets)) == (width, taken)


@pytest.mark.parametrize(
    ("shape", "budget", "waiting", "width"),
    [
        # A tenth of 50 ms is more than 7 * 0.6 = 4.2: 0.5 + 44 * 0.1 = 4.9 ms, and with two more 5.1
        (CHEAP, 0.05, 44, 20),
        (CHEAP, 0.05, 46, 10),
        (CHEAP, 0.2, 64, 20),  # 6.9 ms of 20: who has time is not hurried
        # Seven times what a lone one takes is 17.5 ms, more than a tenth of 50: 2 + 30 * 0.5 = 17, and 18
        (CostShape(2e-3, 2.5e-4, 1.25e-5), 0.05, 30, 20),
        (CostShape(2e-3, 2.5e-4, 1.25e-5), 0.05, 32, 10),
        # All who wait must fit: 64 take 2.5 + 64 * 0.03 = 4.4 ms, and 7 * 2.53 = 17.7 hold four such batches
        (CostShape(2.5e-3, 1e-5, 1e-6), 0.15, 256, 20),
        (CostShape(2.5e-3, 1e-5, 1e-6), 0.15, 320, 10),
    ],
)
def test_the_beam_of_an_engine_that_is_hardly_ever_idle_narrows_before_a_line_forms(
    shape: CostShape, budget: float, waiting: int, width: int
) -> None:
    scheduler = of_shape(shape)
    be_busy(scheduler, 10.0)
    for _ in range(waiting):
        scheduler.line.add(Ticket(next(NUMBERS), 10.0, 10.0 + budget, 10))
    batch = begun(scheduler, 10.0)
    assert (batch.width, len(batch.tickets)) == (width, min(waiting, 64))


def test_an_engine_that_is_nearly_done_is_given_one_batch_that_begins_when_it_is() -> None:
    scheduler = make()
    ask(scheduler, 0.0)
    first = begun(scheduler, 0.0)  # 4 + 4.5 = 8.5 ms
    ask(scheduler, 0.001)
    assert scheduler.dispatch(0.001).batch is None
    scheduler.nearly_done(first, 0.008)
    second = begun(scheduler, 0.008)
    assert (second.after, scheduler.busy, scheduler.idle) == (first.number, 1, 0)
    ask(scheduler, 0.0082)
    scheduler.nearly_done(second, 0.0082)  # it has not begun
    assert scheduler.dispatch(0.0082).batch is None, "one follows, and no more"
    scheduler.finish(first, 0.0085)
    assert (second.after, second.started, second.likely_end) == (None, 0.0085, pytest.approx(0.017))
    assert scheduler.dispatch(0.0085).batch is None, "the engine is busy with the second one"
    scheduler.finish(second, 0.017)
    assert scheduler.costs.speed == pytest.approx(1.0), "its waiting is not taken for work"
    assert begun(scheduler, 0.017).after is None


def test_a_batch_that_is_to_follow_is_as_much_smaller_as_its_beginning_is_later() -> None:
    scheduler = make()
    for _ in range(200):  # notices of 4.5 ms are what the scheduler learns to expect
        ask(scheduler, 0.0)
        batch = begun(scheduler, 0.0)
        scheduler.nearly_done(batch, 0.004)
        scheduler.finish(batch, 0.0085)
    ask(scheduler, 1.0)
    first = begun(scheduler, 1.0)
    scheduler.nearly_done(first, 1.1)
    for _ in range(9):  # which take 44.5 ms of 45, as a test above has it
        scheduler.line.add(Ticket(next(NUMBERS), 1.09, 1.19, 10))
    second = begun(scheduler, 1.1)
    assert second.started == pytest.approx(1.1045, abs=1e-5)
    assert second.width == 100, "40.5 ms are left for them"


def test_who_can_begin_at_once_does() -> None:
    scheduler = make(2)
    for now in (0.0, 0.002):
        ask(scheduler, now)
        begun(scheduler, now)
    one, other = scheduler._running.values()
    scheduler.nearly_done(other, 0.007)
    scheduler.finish(one, 0.0085)
    ask(scheduler, 0.009)
    assert begun(scheduler, 0.009).after is None, "an engine is idle"
    ask(scheduler, 0.0095)
    assert begun(scheduler, 0.0095).after == other.number


def test_who_follows_does_so_where_an_engine_is_done_first() -> None:
    scheduler = make(2)
    for _ in range(2):
        ask(scheduler, 0.0)
        begun(scheduler, 0.0)
    one, other = scheduler._running.values()
    scheduler.nearly_done(other, 0.006)
    scheduler.nearly_done(one, 0.007)
    for leader in (other, one):
        ask(scheduler, 0.0075)
        assert begun(scheduler, 0.0075).after == leader.number


def test_an_engine_that_died_after_its_word_teaches_nothing() -> None:
    scheduler = make()
    ask(scheduler, 0.0)
    batch = begun(scheduler, 0.0)
    scheduler.nearly_done(batch, 0.008)
    scheduler.finish(batch, 0.012, served=False)
    ask(scheduler, 1.0)
    batch = begun(scheduler, 1.0)
    scheduler.nearly_done(batch, 1.008)
    assert batch.likely_end == 1.008


def test_a_stall_after_an_engines_word_is_not_expected_again() -> None:
    scheduler = make()
    ask(scheduler, 0.0)
    batch = begun(scheduler, 0.0)
    scheduler.nearly_done(batch, 0.008)
    scheduler.finish(batch, 5.0)
    ask(scheduler, 5.0)
    batch = begun(scheduler, 5.0)
    scheduler.nearly_done(batch, 5.008)
    assert 5.008 < batch.likely_end <= 5.008 + 5e-4


def test_a_burst_that_meets_an_idle_engine_keeps_the_beam() -> None:
    scheduler = of_shape(CHEAP)
    be_busy(scheduler, 10.0)
    for _ in range(200):
        scheduler.line.add(Ticket(next(NUMBERS), 11.0, 11.2, 10))
    now, widths = 11.0, []
    while len(scheduler.line):
        batch = begun(scheduler, now)
        now = batch.likely_end
        scheduler.finish(batch, now)
        widths.append(batch.width)
    assert widths == [20] * 4
    assert now < 11.05


def test_what_nobody_waits_for_keeps_the_beam() -> None:
    scheduler = of_shape(CostShape(1e-3, 5e-3, 2.5e-4))  # seven of a lone one take 77 ms, sixteen 161 or 121
    be_busy(scheduler, 10.0)
    for background in [True] * 16, [True] * 8 + [False] * 8:
        for one in background:
            scheduler.line.add(Ticket(next(NUMBERS), 10.0, 10.5, 10, background=one))
        batch = begun(scheduler, 10.0)
        scheduler.finish(batch, 10.0)
        assert (batch.width, len(batch.tickets)) == (20 if all(background) else 10, len(background))


def of_shape(shape: CostShape) -> Scheduler:
    """One engine whose likely times are the expected ones."""
    costs = CostModel([CostSample(rows, beam, shape.seconds(rows, beam)) for rows in (1, 8, 32) for beam in (20, 10)])
    costs._spread = 0.0
    scheduler = Scheduler((20, 10), costs)
    scheduler.engines = 1
    return scheduler


def be_busy(scheduler: Scheduler, until: float) -> None:
    """Have it work on one batch for ten seconds, whose length is no lesson."""
    scheduler.line.add(Ticket(next(NUMBERS), until - 10.0, until, 10))
    scheduler.finish(begun(scheduler, until - 10.0), until, served=False)


def test_where_no_width_clears_the_line_the_oldest_are_served_at_the_narrowest() -> None:
    scheduler = make()
    tickets = [Ticket(next(NUMBERS), 0.0, 0.1 + place / 1e6, 10) for place in range(60)]
    for one in reversed(tickets):
        scheduler.line.add(one)
    batch = begun(scheduler, 0.02)
    assert (batch.width, list(batch.tickets)) == (25, tickets[:41])
    assert scheduler.line.tickets == tickets[41:]


def test_a_request_for_many_items_keeps_the_beam_wide() -> None:
    scheduler = make()
    for _ in range(28):
        scheduler.line.add(Ticket(next(NUMBERS), 0.0, 0.1, 50))
    batch = begun(scheduler, 0.02)  # 25 wide means 50 wide here, which is said, and then 27 fit
    assert (batch.width, len(batch.tickets)) == (50, 27)


def test_of_those_for_whom_nobody_waits_a_batch_takes_few() -> None:
    scheduler = make()
    for _ in range(40):
        scheduler.line.add(Ticket(next(NUMBERS), 0.0, 9.0, 10, background=True))
    for _ in range(2):
        ask(scheduler, 0.0, budget=9.0)

    def taken(now: float) -> list[bool]:
        batch = begun(scheduler, now)
        scheduler.finish(batch, now)
        return [one.background for one in batch.tickets]

    assert taken(0.0) == [False] * 2 + [True] * 4
    assert taken(0.04) == [True] * 4, "another one may come in person"
    assert taken(0.06) == [True] * 16, "nobody has for a while"
    ask(scheduler, 1.0, budget=9.0)
    assert taken(1.0) == [False] + [True] * 4
    assert taken(2.0) == [True] * 12
    assert not len(scheduler.line)


def test_two_idle_engines_share_the_line() -> None:
    scheduler = make(engines=2)
    for _ in range(10):
        scheduler.line.add(Ticket(next(NUMBERS), 0.0, 0.1, 10))
    assert [len(begun(scheduler, 0.0).tickets) for _ in range(2)] == [5, 5]


def test_a_newcomer_who_would_be_too_late_is_told_at_once_and_when_to_come_again() -> None:
    scheduler = make()
    ask(scheduler, 0.0)
    begun(scheduler, 0.0)  # until 8.5 ms
    for _ in range(41):
        ask(scheduler, 0.0)  # they start at 8.5, end at 53.5 ms, before 90
    # The 42nd would wait for them, and end at 8.5 + 45 + 45 = 98.5 ms: 8.5 ms after it is due.
    with pytest.raises(OverloadedError, match="no room before the deadline of 100 ms; send it again in 9 ms") as caught:
        ask(scheduler, 0.0)
    assert caught.value.retry_after_seconds == pytest.approx(0.0085)
    assert scheduler.figures().shed == 1
    assert len(scheduler.line) == 41
    assert ask(scheduler, 0.0, budget=0.2), "with more time there is room"


def test_an_idle_engine_tries_even_what_it_thinks_to_be_in_vain() -> None:
    scheduler = make()
    ticket = ask(scheduler, 0.0, budget=0.001)
    batch = begun(scheduler, 0.0)
    assert (batch.tickets, batch.width) == ((ticket,), 25)
    scheduler.finish(batch, 0.0005)
    assert scheduler.costs.speed < 1.0, "and learns from it"


def test_what_ran_out_of_time_is_dropped_and_not_decoded() -> None:
    scheduler = make()
    old, hopeless, fresh = (Ticket(next(NUMBERS), 0.0, deadline, 10) for deadline in (0.05, 0.062, 0.15))
    for one in (old, hopeless, fresh):
        scheduler.line.add(one)
    batch, late, _ = scheduler.dispatch(0.06)
    assert late == [old, hopeless], "2 ms are left to the second, and the fastest batch takes 4.5"
    assert batch is not None
    assert batch.tickets == (fresh,)
    assert scheduler.figures().late == 2


def test_one_that_is_nearly_out_of_time_does_not_make_many_late() -> None:
    scheduler = make()
    hasty = Ticket(next(NUMBERS), 0.0, 0.1, 10)
    others = [Ticket(next(NUMBERS), 0.08, 0.18, 10) for _ in range(20)]
    for one in (hasty, *others):
        scheduler.line.add(one)
    batch, late, _ = scheduler.dispatch(0.085)  # it is due at 90 ms: one request fits until then, and 20 wait
    assert late == [hasty]
    assert batch is not None
    assert set(batch.tickets) == set(others)


def test_a_withdrawn_request_leaves_the_line() -> None:
    scheduler = make()
    gone, stays = ask(scheduler, 0.0), ask(scheduler, 0.0)
    scheduler.withdraw(gone)
    assert begun(scheduler, 0.0).tickets == (stays,)
    scheduler.withdraw(stays)  # it is under way: nothing is left to take out
    assert scheduler.figures().withdrawn == 2


def test_the_bounds_hold_whatever_the_estimates_say() -> None:
    scheduler = make(max_batch=3, max_waiting=5)
    scheduler.costs.shape = CostShape(1e-9, 0.0, 0.0)
    for _ in range(5):
        ask(scheduler, 0.0)
    with pytest.raises(OverloadedError, match="5 requests wait for the engine already; send it again in"):
        ask(scheduler, 0.0)
    batch = begun(scheduler, 0.0)
    assert len(batch.tickets) == 3
    assert batch.width == 200, "two such batches are done in no time"


def test_a_deadline_in_the_past_is_refused() -> None:
    with pytest.raises(OverloadedError, match="the deadline has passed already"):
        ask(make(), 1.0, budget=-0.1)


def test_line_and_counts_outlive_a_swap() -> None:
    line = Line()
    before = Scheduler((1,), CostModel(), line=line)
    before.engines = 1
    ticket = ask(before, 0.0)
    after = Scheduler((1,), CostModel(), line=line, tally=before.tally)
    after.engines = 1
    assert begun(after, 0.0).tickets == (ticket,)
    assert before.dispatch(0.0).batch is None
    assert before.figures().batches == 1


def test_while_an_idle_engine_gathers_nobody_is_refused_and_who_stays_alone_has_all_the_time() -> None:
    scheduler = make(gather_seconds=0.004)
    scheduler._gap, scheduler._newest_arrival = 0.001, 0.999  # so that company is likely
    first = ask(scheduler, 1.0, budget=0.015)  # due after 13.5 ms; 8.5 at the full width, and half of its time is 6.75
    assert scheduler.dispatch(1.0).again == pytest.approx(1.0035), "half of what four at the narrowest leave"
    hasty = ask(scheduler, 1.001, budget=1e-4)  # less than any batch takes: only a try can tell that it does
    assert scheduler.line.tickets == [hasty, first]
    scheduler.withdraw(hasty)
    alone = scheduler.dispatch(1.0045).batch
    assert alone is not None
    assert (alone.tickets, alone.width) == ((first,), 200)


@given(st.integers(1, 60), st.floats(0.0, 0.06), st.floats(0.02, 0.3))
def test_the_width_falls_as_more_wait_and_as_time_runs_out(waiting: int, waited: float, budget: float) -> None:
    def width(rows: int, now: float) -> int:
        scheduler = make()
        for _ in range(rows):
            scheduler.line.add(Ticket(next(NUMBERS), 0.0, budget, 10))
        batch = scheduler.dispatch(now).batch
        return batch.width if batch is not None else 0

    assert width(waiting + 1, waited) <= width(waiting, waited)
    assert width(waiting, waited + 0.01) <= width(waiting, waited)


@dataclass
class History:
    """A scheduler that is driven at random, and what it did."""

    scheduler: Scheduler
    now: float = 0.0
    running: list[ScheduledBatch] = field(default_factory=list)
    ended: dict[int, str] = field(default_factory=dict)
    asked: list[Ticket] = field(default_factory=list)

    def end(self, tickets: list[Ticket] | tuple[Ticket, ...], how: str) -> None:
        for one in tickets:
            assert one.number not in self.ended, "nobody ends twice"
            self.ended[one.number] = how

    def finish_one(self) -> None:
        """The oldest of those that have begun."""
        batch = next(one for one in self.running if one.after is None)
        self.running.remove(batch)
        self.scheduler.finish(batch, self.now)

    def dispatch(self) -> None:
        waiting = list(self.scheduler.line.tickets)
        batch, late, again = self.scheduler.dispatch(self.now)
        self.end(late, "late")
        least = self.scheduler.costs.seconds(1, 25)
        tight = [one for one in late if one.deadline > self.now + least]
        assert all(one.deadline - 0.1 * one.budget - self.now < 0.45 * one.budget for one in tight)
        if batch is None:
            nobody = not self.scheduler.line.tickets
            all_busy = self.scheduler.busy == self.scheduler.engines
            assert all_busy or nobody or again is not None, "no engine is without a batch while somebody waits"
            assert again is None or self.now < again <= self.now + self.scheduler.limits.gather_seconds
            return
        assert all(one.deadline > self.now for one in batch.tickets), "nothing expired is decoded"
        followed = [one for one in self.running if one.number == batch.after]
        assert len(followed) == (batch.after is not None), "the one before it is under way"
        assert all(one.after != batch.after for one in self.running if batch.after is not None), "and it alone follows"
        assert 1 <= len(batch.tickets) <= self.scheduler.limits.max_batch
        assert batch.width in WIDTHS
        left = [one for one in waiting if one not in late]
        assert list(batch.tickets) == left[: len(batch.tickets)], "in order of deadline, and of arrival among equals"
        self.end(batch.tickets, "served")
        self.running.append(batch)


@settings(max_examples=150)
@given(
    engines=st.integers(1, 3),
    gather=st.sampled_from([0.0, 0.004]),
    steps=st.lists(
        st.tuples(st.sampled_from("aaaaaffnnw"), st.floats(0.0, 0.02), st.sampled_from([0.03, 0.1, 0.1, 1.0])),
        max_size=120,
    ),
)
def test_in_every_history_nobody_is_lost_or_served_too_late(
    engines: int, gather: float, steps: list[tuple[str, float, float]]
) -> None:
    history = History(make(engines, max_batch=8, max_waiting=12, gather_seconds=gather))
    for what, pause, budget in steps:
        history.now += pause
        if what == "a":
            ticket = Ticket(len(history.asked), history.now, history.now + budget, 10)
            history.asked.append(ticket)
            try:
                history.scheduler.admit(ticket, history.now)
            except OverloadedError:
                assert history.scheduler.idle == 0 or len(history.scheduler.line)
                history.end([ticket], "shed")
        elif what == "f" and history.running:
            history.finish_one()
        elif what == "n" and history.running:
            history.scheduler.nearly_done(history.running[0], history.now)
        elif what == "w" and history.scheduler.line.tickets:
            ticket = history.scheduler.line.tickets[-1]
            history.scheduler.withdraw(ticket)
            history.end([ticket], "withdrawn")
        history.dispatch()
        assert len(history.scheduler.line) <= 12
        assert history.scheduler.busy <= engines
        assert len(history.running) <= 2 * engines
    while history.running or history.scheduler.line.tickets:
        history.now += 0.005
        if history.running:
            history.finish_one()
        history.dispatch()
    assert history.scheduler.busy == 0
    assert set(history.ended) == {one.number for one in history.asked}, "everybody came to an end"
