"""Which processes make a service on one machine, and what each of them is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asterism.serving.grpc.addresses import MODEL_SERVICE
from asterism.serving.places import METRICS_HOST
from asterism.serving.supervisor.child import ChildSpec, command_of
from asterism.serving.supervisor.probes import grpc_probe, http_probe
from asterism.serving.supervisor.run_folder import engine_address, gateway_address

_WORKER_STOP_SECONDS: Final = 25.0  # it gives its groups twenty


@dataclass(frozen=True, slots=True)
class Lineup:
    """What the processes are told: as it was given, for each of them reads it itself."""

    bundle: Path
    state: Path
    config: Path | None  # the deployment's file
    deadline_ms: int
    reranking: Path | None
    engines: int
    min_beam: int | None
    pin: bool
    factory: str  # module:function
    metrics_port: int | None = None  # of the engine; the worker's is the next one
    metrics_host: str = METRICS_HOST

    def children(self, taken: socket.socket) -> list[ChildSpec]:
        """Engine, worker and gateway, in the order in which they are needed; the gateway gets the socket."""
        return [self._engine(), self._worker(), self._gateway(taken)]

    def _engine(self) -> ChildSpec:
        address = engine_address(self.state)
        arguments = ["--listen", address, "--engines", str(self.engines), *(["--pin"] if self.pin else [])]
        arguments += ["--engine", self.factory, *_option("--min-beam", self.min_beam)]
        arguments += self._metrics(0)
        return ChildSpec("engine", self._command("engine", arguments), grpc_probe(address, MODEL_SERVICE))

    def _worker(self) -> ChildSpec:
        arguments = ["--engine-at", engine_address(self.state), "--gateway-at", gateway_address(self.state)]
        arguments += self._metrics(1)
        command = self._command("worker", arguments)
        return ChildSpec("worker", command, follows="gateway", stop_seconds=_WORKER_STOP_SECONDS)

    def _gateway(self, taken: socket.socket) -> ChildSpec:
        arguments = ["--engine-at", engine_address(self.state), "--listen", gateway_address(self.state)]
        arguments += ["--deadline-ms", str(self.deadline_ms), *_option("--reranking", self.reranking)]
        arguments += ["--listen-fd", str(taken.fileno())]
        host, port = taken.getsockname()[:2]
        probe = http_probe({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # nosec B104
        command = self._command("gateway", arguments)
        return ChildSpec("gateway", command, probe, pass_fds=(taken.fileno(),), speaks=True)

    def _metrics(self, place: int) -> list[str]:
        if self.metrics_port is None:
            return []
        return ["--metrics-port", str(self.metrics_port + place), "--metrics-host", self.metrics_host]

    def _command(self, process: str, arguments: Sequence[str]) -> tuple[str, ...]:
        common = ["--bundle", str(self.bundle), "--state", str(self.state)]
        return command_of(process, *common, *_option("--config", self.config), *arguments, "--supervised")


def _option(name: str, value: object | None) -> Iterator[str]:
    if value is not None:
        yield from (name, str(value))
