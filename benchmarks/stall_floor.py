"""What a server that only spins would see: the stalls of the machine itself; one JSON line at the end.

On each core in turn requests come at the moments of a Poisson process, and each takes a fixed time of spinning: no
sockets, no locks, no allocation. A latency runs from the moment at which its request came, so what stalls the core is
paid for by all who queue behind it. No server on this machine, at this load of a core, can promise less.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import numpy as np

from peers import commit
from serving_parts.load import percentiles, poisson


def latencies_ms(core: int, service_seconds: float, rate: float, seconds: float, seed: int) -> list[float]:
    """Of every request, on one core."""
    os.sched_setaffinity(0, {core})
    clock, moments = time.perf_counter, poisson(rate, seconds, seed).tolist()
    found = np.empty(len(moments))
    start = clock() + 0.1
    for place, moment in enumerate(moments):
        due = start + moment
        while clock() < due:
            pass
        end = clock() + service_seconds
        while clock() < end:
            pass
        found[place] = clock() - due
    return (1000 * found).tolist()


def main() -> None:
    """Spin on each core and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--service-us", type=float, default=100.0, help="that a request takes")
    parser.add_argument("--rate", type=float, default=7_000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=12.0, help="on each core")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    found = {}
    for core in cores:
        row = latencies_ms(core, arguments.service_us / 1e6, arguments.rate, arguments.seconds, arguments.seed)
        found[core] = percentiles(row)
        print(f"core {core}: {found[core]}", flush=True)
    print(json.dumps({"benchmark": "stall_floor", "commit": commit(), **vars(arguments), "cores": found}))


if __name__ == "__main__":
    main()
