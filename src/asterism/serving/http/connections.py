"""Connections that do not wait for ever: a request that began has to end."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asterism.serving.http.hot.page_lane import TRACED, PageLane
from asterism.serving.telemetry.request_tracing import CHOSEN

#: A connection on which half a request lies for so long is closed; bodies are given less (see `BodyLimits`).
PATIENCE_SECONDS: Final = 20.0


class PatientConnection(HttpToolsProtocol):
    """Closes a connection that sends nothing at first, the head of a request too slowly, or a body nobody wants.

    A request that arrives at once sets no timer.
    """

    patience_seconds = PATIENCE_SECONDS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._is_between = True  # requests
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a first request."""
        super().connection_made(transport)
        self._expect_more()

    def data_received(self, data: bytes) -> None:
        """Expect the rest of what has begun to arrive."""
        super().data_received(data)
        if self._is_between and self.cycle is not None and not self.cycle.response_complete:
            self._expect_nothing()
        elif self._timer is None:  # half a request, or an empty line, which ended the wait for another one
            self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect_nothing()
        self._unset_keepalive_if_required()  # after an error too, or the timer would keep the connection's objects
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """It is all there."""
        self._is_between = True
        super().on_message_complete()

    def _expect_more(self) -> None:
        self._timer = self.loop.call_later(self.patience_seconds, self._give_up)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


class QuickConnection(PatientConnection):
    """Has the lane answer a request that came whole, while nothing else is under way, before anything is parsed.

    The timer of an idle connection is not set anew for each of these answers: when it rings, it is asked how long ago
    the last one was.
    """

    def __init__(self, *arguments: Any, lane: PageLane | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._lane = lane
        self._answered_at = 0.0
        self._begun = 0  # requests, as the parser counts them

    def data_received(self, data: bytes) -> None:
        """Answer at once, or go the ordinary way and learn what it looked like."""
        lane = self._lane
        if lane is None or not self._is_idle():
            super().data_received(data)
            return
        answer = lane.answer(data, self.server_state.default_headers)
        if answer:
            self._send(answer)
        elif answer == TRACED:
            self.app_state, kept = {**self.app_state, CHOSEN: True}, self.app_state
            super().data_received(data)
            self.app_state = kept
        else:
            begun = self._begun
            super().data_received(data)
            if self._begun == begun + 1 and self._is_between and self.cycle is not None:
                lane.learn(data, self.scope, keeps_alive=self.cycle.keep_alive)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begun += 1
        super().on_message_begin()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for so long."""
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _is_idle(self) -> bool:
        return (
            self._is_between
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _send(self, answer: bytes) -> None:
        if self._timer is not None:
            self._expect_nothing()
        self.transport.write(answer)
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
