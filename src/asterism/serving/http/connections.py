"""Connections that do not wait for ever: a request that began has to end."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
        if self._is_between:
            self._expect_nothing()
        elif self._timer is None:
            self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect_nothing()
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
