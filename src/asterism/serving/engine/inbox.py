"""What the service sent to an engine process, read by a thread of its own, so that withdrawals are heard meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

from asterism.serving.engine import messages
from asterism.serving.engine.compact import CompactBatch


Order = messages.Batch | CompactBatch | messages.Availability | messages.Forget
Message = Order | messages.Withdrawn


class Inbox:
    """Batches, changes of items and users to forget in their order; rows that were withdrawn are known at once."""

    def __init__(self, source: BinaryIO, on_end: Callable[[], None] = lambda: None) -> None:
        """`on_end` is called, on the thread that reads, when the service has gone."""
        self._source = source
        self._on_end = on_end
        self._decode: Callable[[bytes], Message] = messages.decode_to_engine
        self._messages: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._batch = 0  # the newest that was taken
        self._withdrawn: dict[int, set[int]] = {}
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def decode_by(self, decode: Callable[[bytes], Message]) -> None:
        """How messages are read from now on."""
        self._decode = decode

    def take(self) -> Order | None:
        """The next batch or change, when it comes; None when the service has gone."""
        message = self._messages.get()
        if isinstance(message, messages.Batch | CompactBatch):
            with self._lock:
                self._batch = message.number
                self._withdrawn = {batch: rows for batch, rows in self._withdrawn.items() if batch >= message.number}
        return message

    def withdrawn(self, batch: int) -> set[int]:
        """The rows of a batch for which nobody waits any more."""
        with self._lock:
            return set(self._withdrawn.get(batch, ()))

    def _read(self) -> None:
        while (body := messages.read(self._source)) is not None:
            message = self._decode(body)
            if isinstance(message, messages.Withdrawn):
                with self._lock:
                    if message.batch >= self._batch:  # else it was answered already
                        self._withdrawn.setdefault(message.batch, set()).update(message.rows)
            else:
                self._messages.put(message)
        self._on_end()
        self._messages.put(None)
