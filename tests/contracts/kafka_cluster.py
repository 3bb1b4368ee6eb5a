"""librdkafka's mock cluster: the real protocol on loopback ports, for other processes too; run as a program."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

BROKERS = 3
REBALANCE_MS = 100  # that a new group waits for more members; by default it is 3 s, of every test that opens one


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


def library() -> ctypes.CDLL:
    """The one that the client has loaded."""
    import confluent_kafka  # noqa: F401

    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()}
    return ctypes.CDLL(next(one for one in mapped if "librdkafka" in one))


def bootstraps() -> str:
    """The addresses of a cluster that lives as long as this process."""
    kafka = library()
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(kafka, name).restype = ctypes.c_void_p
    kafka.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    said = ctypes.create_string_buffer(512)
    client = kafka.rd_kafka_new(0, ctypes.c_void_p(kafka.rd_kafka_conf_new()), said, ctypes.c_size_t(len(said)))
    assert client, said.value
    cluster = ctypes.c_void_p(kafka.rd_kafka_mock_cluster_new(ctypes.c_void_p(client), BROKERS))
    kafka.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, ctypes.c_int32(REBALANCE_MS))
    addresses: bytes = kafka.rd_kafka_mock_cluster_bootstraps(cluster)
    return addresses.decode()


if __name__ == "__main__":
    print(bootstraps(), flush=True)
    sys.stdin.read()
