"""Who waits for the engine: persons first, then by deadline, and among equal deadlines in the order of arrival."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Ticket:
    """A request's place; times are seconds on whatever clock the scheduler is told."""

    number: int
    arrived: float
    deadline: float
    count: int  # items wanted, below which the beam cannot shrink
    waits: bool = True
    lives: int = 1  # how often it may be taken back from an engine that died
    background: bool = False  # nobody waits in person

    @property
    def key(self) -> tuple[bool, float, int]:
        """Its order in the line."""
        return self.background, self.deadline, self.number

    @property
    def budget(self) -> float:
        """The seconds it was given in all."""
        return self.deadline - self.arrived


class Line:
    """Tickets in order; short enough, being bounded, for a sorted list."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def tickets(self) -> list[Ticket]:
        """All of them, the next one first."""
        return self._tickets

    def add(self, ticket: Ticket) -> None:
        """Put a ticket where its deadline belongs."""
        bisect.insort(self._tickets, ticket, key=_key)
        ticket.waits = True

    def before(self, ticket: Ticket) -> int:
        """How many would be served before a newcomer."""
        return bisect.bisect_right(self._tickets, ticket.key, key=_key)

    def in_person(self) -> int:
        """How many somebody waits for; they are the first ones."""
        return bisect.bisect_left(self._tickets, True, key=_is_background)

    def remove(self, ticket: Ticket) -> None:
        """Take one ticket out."""
        self._tickets.remove(ticket)
        ticket.waits = False

    def take(self, wanted: Callable[[Ticket], bool]) -> list[Ticket]:
        """Take out, in order, all tickets that are wanted."""
        taken = [one for one in self._tickets if wanted(one)]
        if taken:
            self._tickets = [one for one in self._tickets if not wanted(one)]
        for one in taken:
            one.waits = False
        return taken


def _is_background(ticket: Ticket) -> bool:
    return ticket.background


def _key(ticket: Ticket) -> tuple[bool, float, int]:
    return ticket.key
