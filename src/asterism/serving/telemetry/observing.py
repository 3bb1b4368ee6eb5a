"""Measuring a method of an object in place: whoever holds the object is measured, whatever else it can do.

A wrapper class would have to repeat every method of what it wraps, and cost a call for each.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from asterism.serving.telemetry.families import Observations
from asterism.serving.telemetry.spans import SpanKind, Tracer, current_trace

Call = Callable[..., Any]


def replace_method(target: object, name: str, wrap: Callable[[Call], Call]) -> None:
    """From now on `target.name` is what `wrap` makes of it; raises `AttributeError` where it cannot be replaced."""
    setattr(target, name, wrap(getattr(target, name)))


def timed(kept: Observations) -> Callable[[Call], Call]:
    """Observe how long each call takes, also one that fails."""

    def wrap(call: Call) -> Call:
        if inspect.iscoroutinefunction(call):
            return _timed_async(call, kept)
        observe = kept.observe

        @functools.wraps(call)
        def observed(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                observe(perf_counter() - started)

        return observed

    return wrap


def _timed_async(call: Callable[..., Awaitable[Any]], kept: Observations) -> Call:
    observe = kept.observe

    @functools.wraps(call)
    async def observed(*args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            return await call(*args, **kwargs)
        finally:
            observe(perf_counter() - started)

    return observed


def traced(tracer: Tracer, name: str, kind: SpanKind = SpanKind.INTERNAL) -> Callable[[Call], Call]:
    """A span around each call that is part of a trace."""

    def wrap(call: Call) -> Call:
        if inspect.iscoroutinefunction(call):
            return _traced_async(call, tracer, name, kind)

        @functools.wraps(call)
        def observed(*args: Any, **kwargs: Any) -> Any:
            parent = current_trace.get()
            if parent is None:
                return call(*args, **kwargs)
            with tracer.span(name, kind, parent=parent):
                return call(*args, **kwargs)

        return observed

    return wrap


def _traced_async(call: Callable[..., Awaitable[Any]], tracer: Tracer, name: str, kind: SpanKind) -> Call:
    @functools.wraps(call)
    async def observed(*args: Any, **kwargs: Any) -> Any:
        parent = current_trace.get()
        if parent is None:
            return await call(*args, **kwargs)
        with tracer.span(name, kind, parent=parent):
            return await call(*args, **kwargs)

    return observed
