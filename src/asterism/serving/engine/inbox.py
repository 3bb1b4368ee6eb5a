"""What the service sent to an engine process: read when it is asked for, and between two steps, by no other thread."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from asterism.serving.engine import messages
from asterism.serving.engine.compact import CompactBatch

_READ_BYTES: Final = 1 << 18
_LOOK_MS: Final = 200
_SHORT_BYTES: Final = 256  # of a message that is decoded when it comes: whoever withdraws is heard at once

Order = messages.Batch | CompactBatch | messages.Availability | messages.Forget
Message = Order | messages.Withdrawn


class Inbox:
    """Batches, changes of items and users to forget in their order; rows that were withdrawn are known at once.

    A thread that read beside the one that answers would have to be woken for every batch, and to wake the other. A long
    message is decoded when it is wanted: the answers to the batch under way do not wait for that.
    """

    def __init__(self, source: int) -> None:
        """`source`: the descriptor of a pipe or socket from the service."""
        self._source = source
        self._ready = select.poll()
        self._ready.register(source, select.POLLIN)
        self._bytes = bytearray()  # of a message that has not come to its end
        self._has_ended = False
        self._decode: Callable[[bytes], Message] = messages.decode_to_engine
        self._orders: deque[Order | bytes] = deque()
        self._batch = 0  # the newest that was taken
        self._withdrawn: dict[int, set[int]] = {}

    def decode_by(self, decode: Callable[[bytes], Message]) -> None:
        """How messages are read from now on."""
        self._decode = decode

    def take(self) -> Order | None:
        """The next batch or change, when it comes; None when the service has gone. Raises where what came is none."""
        while not self._orders and not self._has_ended:
            self._read()
        if not self._orders:
            return None
        order = self._orders.popleft()
        if isinstance(order, bytes):
            message = self._decode(order)
            if isinstance(message, messages.Withdrawn):
                self._withdraw(message)
                return self.take()
            order = message
        if isinstance(order, messages.Batch | CompactBatch):
            self._batch = order.number
            self._withdrawn = {batch: rows for batch, rows in self._withdrawn.items() if batch >= order.number}
        return order

    def withdrawn(self, batch: int) -> set[int]:
        """The rows of a batch for which nobody waits any more."""
        while not self._has_ended and self._ready.poll(0):
            self._read()
        return self._withdrawn.get(batch, set())

    def _read(self) -> None:
        """Wait for bytes, and sort what they complete."""
        found = os.read(self._source, _READ_BYTES)
        self._has_ended = not found
        self._bytes += found
        while len(self._bytes) >= messages.LENGTH_BYTES:
            end = messages.LENGTH_BYTES + int.from_bytes(self._bytes[: messages.LENGTH_BYTES], "big")
            if len(self._bytes) < end:
                return
            body = bytes(memoryview(self._bytes)[messages.LENGTH_BYTES : end])
            del self._bytes[:end]  # before it is read: what cannot be must not hide what comes after it
            message: Message | bytes = body
            if len(body) <= _SHORT_BYTES:
                with contextlib.suppress(Exception):  # `take` is told of it, where nobody else's batch fails by it
                    message = self._decode(body)
            if isinstance(message, messages.Withdrawn):
                self._withdraw(message)
            else:
                self._orders.append(message)

    def _withdraw(self, message: messages.Withdrawn) -> None:
        if message.batch >= self._batch:  # else it was answered already
            self._withdrawn.setdefault(message.batch, set()).update(message.rows)


def watch_for_end(source: int, is_over: threading.Event, on_end: Callable[[], None]) -> None:
    """Call `on_end`, on a thread of its own, if the service closes the descriptor before the event is set."""
    ended = select.poll()
    ended.register(source, select.POLLHUP | getattr(select, "POLLRDHUP", 0))  # the latter: Linux alone, for sockets

    def watch() -> None:
        while not is_over.is_set():
            if ended.poll(_LOOK_MS) and not is_over.is_set():
                on_end()
                return

    threading.Thread(target=watch, name="inbox", daemon=True).start()
