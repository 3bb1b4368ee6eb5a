"""Progress bars for people, a line now and then for logs, nothing for tests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

_LOG_EVERY_SECONDS = 10.0


def track(
    items: Iterable[T], description: str, total: int | None = None, status: Callable[[], str] = str
) -> Iterator[T]:
    """Yield the items while showing on stderr how far the work is, and with `status` how well it goes.

    On a terminal a live bar; elsewhere one line every ten seconds, so that a log stays readable
    and work that is soon done stays silent.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from _with_bar(items, description, total, status)
    else:
        yield from _with_lines(items, description, total, status)


def _with_bar(items: Iterable[T], description: str, total: int | None, status: Callable[[], str]) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, status=status())
        for item in items:
            yield item
            progress.update(task, advance=1, status=status())


def _with_lines(items: Iterable[T], description: str, total: int | None, status: Callable[[], str]) -> Iterator[T]:
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= _LOG_EVERY_SECONDS:
            last = time.monotonic()
            line = f"{description}: {done}/{total if total is not None else '?'} {status()}"
            print(line.rstrip(), file=sys.stderr)
