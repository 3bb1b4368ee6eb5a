"""One training at a time in one place."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asterism.core.errors import TrainingError

_LOCK_FILE = "lock"


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Hold a run's folder, made if absent, until the block ends or the process dies.

    Raises `TrainingError` where another training holds it: two would mix their checkpoints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TrainingError(f"another training is at work in {folder}; wait for it or name another --output") from None
    finally:
        os.close(descriptor)
