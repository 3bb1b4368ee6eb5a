"""The engine process: loads and measures the model once, then answers batches from stdin until stdin ends.

python -m asterism.serving.engine.worker '{"factory": "module:function", "bundle": "…", "version": "…"}'
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO, cast

from asterism.core.bundle import Bundle
from asterism.core.errors import AsterismError, BundleError, ConfigError
from asterism.core.memory import keep_freed_memory
from asterism.core.pauses import keep_pauses_short
from asterism.serving.engine import messages
from asterism.serving.engine.answering import Answering
from asterism.serving.engine.calibration import calibrate
from asterism.serving.engine.inbox import Inbox, watch_for_end
from asterism.serving.ports import ElasticEngine, Engine, EngineFactory

logger = logging.getLogger(__name__)


def load_factory(name: str) -> EngineFactory:
    """The function that `module:function` names; raises `ConfigError`."""
    module_name, _, function_name = name.partition(":")
    try:
        return cast(EngineFactory, getattr(importlib.import_module(module_name), function_name))
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(f"the engine {name!r} cannot be imported ({error}); name it as module:function") from error


def load_engine(start: messages.Start) -> Engine:
    """The engine over the very bundle that the service means; raises `BundleError`, `ConfigError` or its own."""
    found = Bundle.open(Path(start.bundle)).version
    if found != start.version:
        raise BundleError(
            f"{start.bundle} now holds bundle {found}, and the service runs on {start.version}; start the service again"
        )
    return load_factory(start.factory)(Path(start.bundle))


def load(start: messages.Start) -> tuple[Engine, messages.Loaded]:
    """The engine, warm, and what the service must know of it."""
    engine = load_engine(start)
    semantic_ids = engine.semantic_ids()
    samples = calibrate(engine, list(semantic_ids), start.min_beam)
    return engine, messages.Loaded(semantic_ids, engine.beam if isinstance(engine, ElasticEngine) else None, samples)


def keep_to_core(core: int | None) -> None:
    """Bind the process to one processor core, where asked and where the system can; raises `ConfigError`."""
    if core is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError("this system cannot bind a process to a core; serve without --pin")
    os.sched_setaffinity(0, {core})


def _own_stdout() -> BinaryIO:
    """The stream to the service; what libraries print goes to stderr instead, or it would break the messages."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return stream


def main() -> None:
    """Run the process; when the engine cannot be loaded, tell the service why and end with status 2."""
    for number in (signal.SIGINT, signal.SIGTERM):  # some supervisors signal every process; the service ends this one
        signal.signal(number, signal.SIG_IGN)
    start = messages.decode_start(sys.argv[1])
    sink = _own_stdout()
    is_loaded = threading.Event()
    source = sys.stdin.fileno()
    watch_for_end(source, is_loaded, lambda: os._exit(1))  # nobody waits for the model
    try:
        keep_freed_memory()
        keep_to_core(start.core)
        engine, loaded = load(start)
        keep_pauses_short()
    except Exception as error:  # whatever it is, the service must hear why
        if not isinstance(error, AsterismError):
            logger.exception("the engine %s failed while it loaded", start.factory)
        sink.write(messages.pack(messages.Loaded(refusal=f"{type(error).__name__}: {error}")))
        sink.flush()
        sys.exit(2)
    is_loaded.set()
    answering, inbox = Answering(engine), Inbox(source)
    inbox.decode_by(answering.decode)
    sink.write(messages.pack(loaded))
    sink.flush()
    answering.run(inbox, sink)


if __name__ == "__main__":
    main()
