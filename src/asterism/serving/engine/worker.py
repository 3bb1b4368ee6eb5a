"""The engine process: loads the model once, then answers batches from stdin on stdout until stdin ends.

python -m asterism.serving.engine.worker MODULE:FUNCTION BUNDLE VERSION
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from asterism.core.bundle import Bundle
from asterism.core.errors import AsterismError, BundleError, ConfigError
from asterism.serving.engine import messages
from asterism.serving.ports import Engine, EngineFactory

logger = logging.getLogger(__name__)


def load_factory(name: str) -> EngineFactory:
    """The function that `module:function` names; raises `ConfigError`."""
    module_name, _, function_name = name.partition(":")
    try:
        return cast(EngineFactory, getattr(importlib.import_module(module_name), function_name))
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(f"the engine {name!r} cannot be imported ({error}); name it as module:function") from error


def load_engine(factory_name: str, bundle: Path, version: str) -> Engine:
    """The engine over the very bundle that the service runs on; raises `BundleError`, `ConfigError` or its own."""
    found = Bundle.open(bundle).version
    if found != version:
        raise BundleError(
            f"{bundle} now holds bundle {found}, and the service runs on {version}; start the service again"
        )
    return load_factory(factory_name)(bundle)


def answer_batches(engine: Engine, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until the source ends; an engine's exception becomes that batch's error."""
    unavailable: frozenset[str] = frozenset()
    while (body := messages.read(source)) is not None:
        batch = messages.decode_batch(body)
        if batch.unavailable is not None:
            unavailable = batch.unavailable
        requests = [replace(one, excluded=one.excluded | unavailable) for one in batch.requests]
        try:
            reply = messages.Reply(tuple(engine.recommend(requests)))
        except Exception as error:  # the model must not take the process with it, and the service must hear why
            logger.exception("the engine failed on a batch of %d", len(requests))
            reply = messages.Reply((), f"{type(error).__name__}: {error}")
        sink.write(messages.pack(reply))
        sink.flush()


def _own_stdout() -> BinaryIO:
    """The stream to the service; what libraries print goes to stderr instead, or it would break the messages."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


def main() -> None:
    """Run the process; when the engine cannot be loaded, tell the service why and end with status 2."""
    for number in (signal.SIGINT, signal.SIGTERM):  # some supervisors signal every process; the service ends this one
        signal.signal(number, signal.SIG_IGN)
    factory_name, bundle, version = sys.argv[1:]
    sink = _own_stdout()
    try:
        engine = load_engine(factory_name, Path(bundle), version)
        loaded = messages.Loaded(engine.semantic_ids())
    except Exception as error:  # whatever it is, the service must hear why
        if not isinstance(error, AsterismError):
            logger.exception("the engine %s failed while it loaded", factory_name)
        sink.write(messages.pack(messages.Loaded({}, f"{type(error).__name__}: {error}")))
        sink.flush()
        sys.exit(2)
    sink.write(messages.pack(loaded))
    sink.flush()
    answer_batches(engine, sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
