"""The processes of a running `asterism serve`, by their roles: their memory, and the CPU time that they took."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

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
