"""Group commit: many callers, one thread that makes what they brought durable in one go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from asterism.core.errors import OverloadedError, StorageError

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Hands everything that waits to `commit` together; each caller's future gets its own result.

    `commit` takes the entries in order of arrival and returns one result each, or the error that one caller gets;
    when it raises, all callers of that group get the error.
    """

    def __init__(self, commit: Callable[[list[T]], Sequence[R | Exception]], name: str, max_pending: int) -> None:
        self._commit = commit
        self._max_pending = max_pending
        self._pending: list[tuple[T, Future[R]]] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, entry: T) -> Future[R]:
        """Queue an entry; raises `OverloadedError` when too many wait, `StorageError` after `close`."""
        future: Future[R] = Future()
        with self._wake:
            if self._closed:
                raise StorageError("the log is closed; the service is shutting down")
            if len(self._pending) >= self._max_pending:
                raise OverloadedError(f"{self._max_pending} writes wait for the disk already; send this again later")
            self._pending.append((entry, future))
            self._wake.notify()
        return future

    def close(self) -> None:
        """Commit what waits, then stop the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while (group := self._next_group()) or not self._closed:
            if not group:
                continue  # all who waited have given up
            try:
                results = self._commit([entry for entry, _ in group])
            except Exception as error:  # the callers must hear of it, whatever it is, and the thread must live
                for _, future in group:
                    future.set_exception(error)
                continue
            for (_, future), result in zip(group, results, strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _next_group(self) -> list[tuple[T, Future[R]]]:
        with self._wake:
            self._wake.wait_for(lambda: self._pending or self._closed)
            group, self._pending = self._pending, []
        return [(entry, future) for entry, future in group if future.set_running_or_notify_cancel()]
