"""Which processes make a service on one machine, and what each of them is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asterism.serving.grpc.engine_process import MODEL_SERVICE
from asterism.serving.service import ServiceSettings
from asterism.serving.supervisor.child import ChildSpec, command_of
from asterism.serving.supervisor.probes import grpc_probe, http_probe
from asterism.serving.supervisor.run_folder import engine_address, gateway_address


@dataclass(frozen=True, slots=True)
class Lineup:
    """What the processes have in common, as paths rather than as what is read from them."""

    settings: ServiceSettings
    config: Path | None  # the deployment's file
    reranking: Path | None
    metrics_port: int | None = None  # of the engine; the worker's is the next one

    def children(self, taken: socket.socket) -> list[ChildSpec]:
        """Engine, worker and gateway, in the order in which they are needed; the gateway gets the socket."""
        return [self._engine(), self._worker(), self._gateway(taken)]

    def _engine(self) -> ChildSpec:
        settings, address = self.settings, engine_address(self.settings.state)
        arguments = ["--listen", address, "--engine", settings.engine, "--engines", str(settings.engines)]
        arguments += _option("--min-beam", settings.min_beam)
        arguments += ["--pin"] if settings.pin else []
        arguments += _option("--metrics-port", self.metrics_port)
        return ChildSpec("engine", self._command("engine", arguments), grpc_probe(address, MODEL_SERVICE))

    def _worker(self) -> ChildSpec:
        state = self.settings.state
        arguments = ["--engine-at", engine_address(state), "--gateway-at", gateway_address(state)]
        arguments += _option("--metrics-port", None if self.metrics_port is None else self.metrics_port + 1)
        return ChildSpec("worker", self._command("worker", arguments))

    def _gateway(self, taken: socket.socket) -> ChildSpec:
        settings = self.settings
        arguments = ["--engine-at", engine_address(settings.state), "--listen-fd", str(taken.fileno())]
        arguments += ["--deadline-ms", str(round(settings.deadline_seconds * 1000))]
        arguments += _option("--reranking", self.reranking)
        host, port = taken.getsockname()[:2]
        probe = http_probe({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
        command = self._command("gateway", arguments)
        return ChildSpec("gateway", command, probe, pass_fds=(taken.fileno(),), speaks=True)

    def _command(self, process: str, arguments: Sequence[str]) -> tuple[str, ...]:
        common = ["--bundle", str(self.settings.bundle), "--state", str(self.settings.state)]
        return command_of(process, *common, *_option("--config", self.config), *arguments, "--supervised")


def _option(name: str, value: object | None) -> Iterator[str]:
    if value is not None:
        yield from (name, str(value))
