"""librdkafka's mock cluster: the real protocol on loopback ports, for other processes too; run as a program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def start_kafka(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """The process that holds the brokers, and their addresses."""
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def main() -> None:
    from confluent_kafka import Producer

    holder = Producer({"test.mock.num.brokers": 3})
    brokers = holder.list_topics(timeout=60).brokers.values()
    print(",".join(f"{one.host}:{one.port}" for one in brokers), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
