"""A folder that one process owns, and who that is."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, NamedTuple

from asterism.core.errors import StorageError

_LOCK: Final = "asterism.lock"


class Owner(NamedTuple):
    """A process that holds a folder just now."""

    role: str
    pid: int


def own(folder: Path, role: str) -> int:
    """Make and take a folder until the descriptor is closed; raises `BlockingIOError` where another process has it.

    Raises `StorageError` where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"{folder} cannot be used ({error}); make room, or name another place") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(lock, 0)
        os.pwrite(lock, f"{role} {os.getpid()}".encode(), 0)
    except OSError:
        os.close(lock)
        raise
    return lock


def owner_of(folder: Path) -> Owner | None:
    """Who has a folder; None where nobody has, or where it does not say so."""
    try:
        with (folder / _LOCK).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                role, _, pid = file.read().rpartition(" ")
                return Owner(role, int(pid)) if role and pid.isdecimal() else None
    except OSError:
        return None
    return None
