"""The processes of a running `asterism serve`, by their roles: their memory, and the CPU time that they took."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_ROLES = ["engine", "gateway", "model", "supervisor", "worker"]
_TICK_SECONDS = 1.0 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> dict[int, str]:
    """A process and all below it, by their command lines."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            number = int(path.name)
            parents[number] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            names[number] = (path / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue

    def belongs(one: int) -> bool:
        return one == pid or (one in parents and parents[one] > 1 and belongs(parents[one]))

    return {one: names[one] for one in names if belongs(one)}


def role_of(command: str) -> str:
    """What a process of the family is."""
    for role in ("serve gateway", "serve engine", "serve worker"):
        if role in command:
            return role.split()[1]
    return "model" if "engine" in command else "supervisor"


def wait_complete(pid: int, patience_seconds: float = 60.0) -> list[str]:
    """The roles of the family once each is there and begins nobody else; as they are where that does not come."""
    end = time.monotonic() + patience_seconds
    while True:
        roles = sorted(role_of(one) for one in family(pid).values())
        if roles == _ROLES or time.monotonic() > end:
            return roles
        time.sleep(0.1)


def rss_mb(pid: int) -> dict[str, float]:
    """Resident memory of the family by role, in MB."""
    return {role: round(mb, 1) for role, mb in _by_role(pid, _rss_mb).items()}


def cpu_seconds(pid: int) -> dict[str, float]:
    """User and system time of the family by role, in seconds, since each process began."""
    return _by_role(pid, _cpu_seconds)


def _by_role(pid: int, figure: Callable[[int], float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one, command in family(pid).items():
        try:
            role = role_of(command)
            found[role] = found.get(role, 0.0) + figure(one)
        except OSError:  # it has gone
            continue
    return found


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_SECONDS
