"""Visitors who ask and click while something breaks, and what became of every request."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from serving.small_market import ITEM_IDS

VISITORS = 6
CLICKED_ITEMS = 8  # few, so that there is always something left to recommend
_PAUSE_SECONDS = 0.01
_ANSWER_SECONDS = 120.0
_WAITED_SECONDS = 1.0


class Outcome(NamedTuple):
    """One try of one request."""

    at: float  # when it ended, by time.monotonic
    seconds: float
    is_read: bool
    code: int | None  # of the envelope; None where no answer came
    source: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the fault table."""

    fault: str
    requests: int
    errors: int
    recovery_seconds: float
    slowest_seconds: float
    acknowledged: int

    def __str__(self) -> str:
        share = self.errors / max(1, self.requests)
        return (
            f"{self.fault:<34} {self.requests:>6} requests  {self.errors:>4} errors ({share:.2%})  "
            f"recovered in {self.recovery_seconds:5.2f} s  slowest {self.slowest_seconds:5.2f} s  "
            f"{self.acknowledged} events acknowledged"
        )


class Load:
    """Each visitor asks for a slate, then clicks; a click without an answer is sent again under the same id."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(f"u{one}",)) for one in range(VISITORS)]
        self.outcomes: list[Outcome] = []
        self.sent: dict[str, str] = {}  # user by event id
        self.acknowledged: set[str] = set()

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        self.wait_for(lambda: len(self.acknowledged) >= 2 * VISITORS)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every visitor have the answer to what was sent."""
        self._ends.set()
        for one in self._threads:
            one.join(2 * _ANSWER_SECONDS)
            assert not one.is_alive(), "a request hangs"

    def wait_for(self, condition: Callable[[], bool], seconds: float = 180.0) -> None:
        """Return once something is so; fails where it never is."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not so within {seconds} s; last outcomes: {self.outcomes[-3:]}"
            time.sleep(0.02)

    def recovery_after(self, fault_at: float, is_whole: Callable[[Outcome], bool]) -> float:
        """Seconds from a fault until the last answer that was not as before, or that was waited for."""
        broken = [
            one.at
            for one in self.outcomes
            if one.at >= fault_at and (one.seconds > _WAITED_SECONDS or not is_whole(one))
        ]
        return max(0.0, max(broken, default=fault_at) - fault_at)

    def wait_whole(self, since: float, is_whole: Callable[[Outcome], bool]) -> None:
        """Wait until the last twenty outcomes after a moment were all as before, reads and clicks among them."""

        def is_so() -> bool:
            last = self.outcomes[-20:]
            return (
                len(last) == 20
                and last[0].at > since
                and all(map(is_whole, last))
                and {one.is_read for one in last} == {True, False}
            )

        self.wait_for(is_so)

    def line(self, fault: str, fault_at: float, is_whole: Callable[[Outcome], bool]) -> Line:
        """What the fault cost."""
        during = [one for one in self.outcomes if one.at >= fault_at]
        return Line(
            fault,
            len(during),
            sum(one.code != 0 for one in during),
            self.recovery_after(fault_at, is_whole),
            max(one.seconds for one in during),
            len(self.acknowledged),
        )

    def _visit(self, user_id: str) -> None:
        with httpx.Client(base_url=self._url, timeout=_ANSWER_SECONDS) as client:
            for number in itertools.count():
                if self._ends.is_set():
                    return
                self._ask(client, True, "/api/v1/recommend", {"user_id": user_id, "count": 5})
                event_id = f"{user_id}-{number}"
                body = {"user_id": user_id, "item_id": ITEM_IDS[number % CLICKED_ITEMS], "event_id": event_id}
                self.sent[event_id] = user_id
                while self._ask(client, False, "/api/v1/feedback", body) != 0:
                    time.sleep(5 * _PAUSE_SECONDS)
                self.acknowledged.add(event_id)
                time.sleep(_PAUSE_SECONDS)

    def _ask(self, client: httpx.Client, is_read: bool, path: str, body: dict[str, Any]) -> int | None:
        started = time.monotonic()
        code, source = None, None
        try:
            answer = client.post(path, json=body).json()
            code, source = answer["code"], (answer["data"] or {}).get("source")
        except (httpx.TransportError, ValueError):
            pass
        now = time.monotonic()
        self.outcomes.append(Outcome(now, now - started, is_read, code, source))
        return code


def answered(one: Outcome) -> bool:
    """Whether there was an answer without an error."""
    return one.code == 0


def answered_by_model(one: Outcome) -> bool:
    """Whether a read was answered by the model, and a click at all."""
    return one.code == 0 and (not one.is_read or one.source == "model")
