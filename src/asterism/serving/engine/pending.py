"""Requests that somebody waits for, from their arrival to their answer, through line, batch and swap."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from asterism.serving.engine.replica import Replica
from asterism.serving.ports import EngineAnswer, EngineRequest
from asterism.serving.scheduling import Ticket


class Place(NamedTuple):
    """Where a request is decoded."""

    replica: Replica
    batch: int
    row: int


@dataclass(eq=False, slots=True)
class Pending:
    """A request and the future that its caller awaits."""

    ticket: Ticket
    request: EngineRequest
    answer: asyncio.Future[EngineAnswer]
    place: Place | None = None  # while it is decoded


class PendingRequests:
    """By ticket; bounded, as the line and the batches are."""

    def __init__(self) -> None:
        self._by_number: dict[int, Pending] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def add(self, ticket: Ticket, request: EngineRequest) -> Pending:
        """Begin to wait; for a running event loop."""
        one = Pending(ticket, request, asyncio.get_running_loop().create_future())
        self._by_number[ticket.number] = one
        return one

    def remove(self, ticket: Ticket) -> None:
        """The caller has the answer, or has gone."""
        self._by_number.pop(ticket.number, None)

    def of(self, ticket: Ticket) -> Pending | None:
        """What belongs to a ticket, while somebody waits."""
        return self._by_number.get(ticket.number)

    def resolve(self, ticket: Ticket, answer: EngineAnswer) -> bool:
        """Give the answer; False where nobody waits any more."""
        one = self.of(ticket)
        if one is None or one.answer.done():
            return False
        one.answer.set_result(answer)
        return True

    def fail(self, tickets: Iterable[Ticket], error: Exception) -> int:
        """End the waiting of several with an error; how many of them waited."""
        found = [one for ticket in tickets if (one := self.of(ticket)) is not None and not one.answer.done()]
        for one in found:
            one.answer.set_exception(error)
        return len(found)
