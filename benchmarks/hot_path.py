"""The cached read path: CPU time of each stage, then requests a second over real sockets; one JSON line at the end.

One server process answers five ways: Asterism as it serves; its application `without_lane`; the same handler in FastAPI
and pydantic, with its cards in memory too; the handler as it was `before`, which read cards from the catalogue each
time; and a plain lookup of a list in Redis. They are measured in turn, so that other work on the machine falls on all
of them.
`cpu_us` is the server process's own CPU time a request, whatever else runs; `per_core` is a second divided by it, which
is what a core of its own would answer. `per_second` is what was really answered: load and server share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hot_path_parts.world import user_ids, write_market
from peers import commit
from serving_parts.load import Call, closed_loop, post

HERE = Path(__file__).parent
PATH = "/api/v1/recommend"

Row = dict[str, Any]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measured(pid: int, port: int, requests: list[Call], arguments: argparse.Namespace) -> Row:
    """One round of one way, which lasts until the processor's clock has ticked for it."""
    before, answered = cpu_seconds(pid), 0
    while True:
        row = closed_loop(("127.0.0.1", port), requests, arguments.seconds, connections=arguments.connections).row()
        if row["answered"] != row["requests"] or row["answered"] == 0:
            raise SystemExit(f"not every request was answered: {row}")
        answered += row["answered"]
        if (spent := cpu_seconds(pid) - before) > 0:
            break
    cpu_us = spent / answered * 1e6
    return {"cpu_us": cpu_us, **{name: row[name] for name in ("per_second", "p50_ms", "p99_ms")}}


def medians(rounds: list[Row]) -> Row:
    """Of each figure, over the rounds."""
    found = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {name: round(value, 2) for name, value in found.items()} | {"per_core": round(1e6 / found["cpu_us"])}


def main() -> None:
    """Parse the arguments, start the server, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--calls", type=int, default=1_500, help="of each stage, five times")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "src")]), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        write_market(Path(folder) / "bundle", items=arguments.items, users=arguments.users, seed=arguments.seed)
        command = [sys.executable, "-m", "hot_path_parts.server", folder, str(arguments.users), str(arguments.calls)]
        with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            told = json.loads(server.stdout.readline() or "{}")
            if "ports" not in told:
                raise SystemExit("the server did not start")
            print(json.dumps(told["stages"], indent=2), file=sys.stderr)
            requests = [
                Call("cached", post(PATH, json.dumps({"user_id": one}).encode())) for one in user_ids(arguments.users)
            ]
            np.random.default_rng(arguments.seed).shuffle(requests)  # type: ignore[arg-type]
            rounds: dict[str, list[Row]] = {name: [] for name in told["ports"]}
            for _ in range(arguments.rounds):
                for name, port in told["ports"].items():
                    rounds[name].append(measured(server.pid, port, requests, arguments))
                    print(name, rounds[name][-1], file=sys.stderr)
            memory = resident_mb(server.pid)
            server.communicate("")
    ways = {name: medians(found) for name, found in rounds.items()}
    row = {"benchmark": "hot_path", "commit": commit(), **vars(arguments), "answer_bytes": told["bytes"]}
    print(json.dumps({**row, "stages_us": told["stages"], "server_mb": round(memory), "ways": ways}))


if __name__ == "__main__":
    main()
