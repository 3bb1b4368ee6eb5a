"""`asterism serve`: a bundle as a running service, whole or one process of it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asterism.config import RerankingConfig, StoresConfig, load_deployment, load_reranking_config
from asterism.config.guard import GuardConfig
from asterism.core.errors import ConfigError, MissingDependencyError
from asterism.serving.places import CUDA_ENGINE, DEFAULT_ENGINE, METRICS_HOST, default_state_folder

_NEEDED = ("fastapi", "uvicorn", "msgspec", "grpc", "grpc_health", "grpc_reflection")

_LOG_FORMAT = "ASTERISM_LOG_FORMAT"


class LogFormat(StrEnum):
    """For people at a terminal, or a JSON object a line."""

    TEXT = "text"
    JSON = "json"


class Device(StrEnum):
    """Where the model answers."""

    CPU = "cpu"
    CUDA = "cuda"


app = typer.Typer(invoke_without_command=True)

BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="The folder of the bundle to serve.", show_default=False)
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="Where feedback and the catalogue are kept; beside the bundle by default."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Where each store is (TOML); below the state folder by default.")
]
HostOption = Annotated[str, typer.Option("--host", help="The address to listen on.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")]
DeadlineOption = Annotated[
    int,
    typer.Option(
        "--deadline-ms", min=1, max=60_000, help="How long the model may take before an answer does without it."
    ),
]
RerankingOption = Annotated[
    Path | None,
    typer.Option("--reranking", help="How slates are made of candidates (TOML); in the model's order by default."),
]
EnginesOption = Annotated[
    int, typer.Option("--engines", min=1, max=256, help="How many processes answer, with a model and a thread each.")
]
MinBeamOption = Annotated[
    int | None,
    typer.Option(
        "--min-beam", min=1, help="As narrow as the beam may get under load; an eighth of the bundle's by default."
    ),
]
PinOption = Annotated[bool, typer.Option("--pin", help="Keep each engine process to one processor core.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the model answers: a core an engine, or a GPU.")]
FactoryOption = Annotated[
    str | None, typer.Option("--engine", help="The function that loads the model, as module:function.", hidden=True)
]
EngineAtOption = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-at",
        help="Where an engine listens: unix:/folder/engine.sock or host:port; again for more of them. "
        "By default the one of the state folder.",
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option("--metrics-port", min=1, max=65534, help="The port where Prometheus finds /metrics."),
]
MetricsHostOption = Annotated[
    str,
    typer.Option(
        "--metrics-host",
        help="The address of --metrics-port; no key is asked for there, so let Prometheus alone reach it.",
    ),
]
LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", envvar=_LOG_FORMAT, help="How the log is written to stderr.")
]
SupervisedOption = Annotated[bool, typer.Option("--supervised", hidden=True, help="End when stdin ends.")]


@app.callback()
def serve(
    context: typer.Context,
    bundle: BundleOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    state: StateOption = None,
    config: ConfigOption = None,
    deadline_ms: DeadlineOption = 200,
    engines: EnginesOption = 1,
    min_beam: MinBeamOption = None,
    pin: PinOption = False,
    reranking: RerankingOption = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65534,
            help="Where Prometheus finds /metrics of the engine; the worker has the next port, the gateway its own.",
        ),
    ] = None,
    metrics_host: MetricsHostOption = METRICS_HOST,
    device: DeviceOption = Device.CPU,
    engine: FactoryOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Serve recommendations over HTTP until SIGTERM or Ctrl-C: engine, worker and gateway under one supervisor."""
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    _check_metrics(metrics_port, metrics_host)
    _begin("supervisor", log_format)
    from asterism.core.bundle import Bundle
    from asterism.serving.http.listening import is_loopback, take_port
    from asterism.serving.supervisor.lineup import Lineup
    from asterism.serving.supervisor.run_folder import RunFolder
    from asterism.serving.supervisor.supervising import supervise

    served, folder, stores = _places(bundle, state, config)
    Bundle.open(served)
    if reranking is not None:
        load_reranking_config(reranking)
    taken = take_port(host, port)
    if not is_loopback(taken.getsockname()[0]):
        from asterism.serving.gate_check import check_gate

        check_gate(_guard(config), stores or StoresConfig.embedded(folder), taken.getsockname()[0])
    lineup = Lineup(
        served,
        folder,
        config,
        deadline_ms,
        reranking,
        engines,
        min_beam,
        pin,
        _factory(engine, device),
        metrics_port,
        metrics_host,
    )
    status = asyncio.run(supervise(lineup.children(taken), RunFolder(folder), taken.close))
    raise typer.Exit(status)


@app.command()
def gateway(
    bundle: BundleOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    state: StateOption = None,
    config: ConfigOption = None,
    deadline_ms: DeadlineOption = 200,
    reranking: RerankingOption = None,
    engine_at: EngineAtOption = None,
    listen: Annotated[
        str | None,
        typer.Option(help="Where other processes ask for features and slates; in the state folder by default."),
    ] = None,
    share_port: Annotated[
        bool, typer.Option("--share-port", help="Let other gateways listen on the same port (needs states in Redis).")
    ] = False,
    listen_fd: Annotated[int | None, typer.Option(hidden=True, help="A socket that listens already.")] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
    supervised: SupervisedOption = False,
) -> None:
    """Serve HTTP alone; the model's answers come from engines elsewhere."""
    _begin("gateway", log_format, supervised)
    from asterism.serving.deploying import deployed_bundle
    from asterism.serving.http import server
    from asterism.serving.http.gate import open_gate
    from asterism.serving.http.listening import take_port
    from asterism.serving.service import ServiceSettings, open_service
    from asterism.serving.supervisor.run_folder import engine_address, gateway_address

    served, folder, stores = _places(bundle, state, config)
    settings = ServiceSettings(
        bundle=deployed_bundle(folder, served),
        state=folder,
        deadline_seconds=deadline_ms / 1000,
        engine_addresses=tuple(engine_at or [engine_address(folder)]),
        reranking=load_reranking_config(reranking) if reranking is not None else RerankingConfig(),
        stores=stores,
    )
    if share_port and settings.deployment.state == "memory":
        raise ConfigError(
            "users' states are in this gateway's memory, so a second one on its port would not know them; "
            "give `state` a redis:// URL in the file that --config names, or leave out --share-port"
        )
    taken = take_port(host, port, shared=share_port) if listen_fd is None else socket.socket(fileno=listen_fd)
    service = open_service(settings)
    gate = open_gate(_guard(config), settings.deployment, service.hot.limits, taken.getsockname()[0])
    address = listen or gateway_address(settings.state)
    server.run(service, taken, lambda line: print(line, flush=True), address, gate, supervised=supervised)


@app.command(name="engine")
def engine_command(
    bundle: BundleOption = None,
    listen: Annotated[
        str | None,
        typer.Option(help="unix:/folder/engine.sock or host:port; a socket in the state folder by default."),
    ] = None,
    state: StateOption = None,
    config: ConfigOption = None,
    engines: EnginesOption = 1,
    min_beam: MinBeamOption = None,
    pin: PinOption = False,
    device: DeviceOption = Device.CPU,
    engine: FactoryOption = None,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = METRICS_HOST,
    log_format: LogFormatOption = LogFormat.TEXT,
    supervised: SupervisedOption = False,
) -> None:
    """Serve the model alone, over gRPC."""
    _check_metrics(metrics_port, metrics_host)
    _begin("engine", log_format, supervised)
    from asterism.serving.deploying import deployed_bundle
    from asterism.serving.engine.limits import EngineLimits
    from asterism.serving.grpc.engine_process import EngineProcessSettings, run_engine
    from asterism.serving.supervisor.run_folder import engine_address

    served, folder, stores = _places(bundle, state, config)
    deployment = stores or StoresConfig.embedded(folder)
    process = EngineProcessSettings(
        bundle=deployed_bundle(folder, served),
        state=folder,
        asked=served,
        address=listen or engine_address(folder),
        factory=_factory(engine, device),
        catalogue=deployment.catalogue,
        timeout_seconds=deployment.timeout_seconds,
        limits=EngineLimits(engines=engines, min_beam=min_beam, pin=pin),
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        supervised=supervised,
    )
    say = (lambda _: None) if supervised else (lambda line: print(line, flush=True))
    run_engine(process, say)


@app.command()
def worker(
    bundle: BundleOption = None,
    state: StateOption = None,
    config: ConfigOption = None,
    engine_at: EngineAtOption = None,
    gateway_at: Annotated[
        str | None,
        typer.Option(help="Where the gateway that holds users' states answers; in the state folder by default."),
    ] = None,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = METRICS_HOST,
    log_format: LogFormatOption = LogFormat.TEXT,
    supervised: SupervisedOption = False,
) -> None:
    """Follow the feedback alone: behaviours, history, shared states, slates made anew."""
    _check_metrics(metrics_port, metrics_host)
    _begin("worker", log_format, supervised)
    from asterism.serving.deploying import deployed_bundle
    from asterism.serving.stopping import hurries, stop_signals
    from asterism.serving.supervisor.run_folder import engine_address, gateway_address
    from asterism.serving.worker.running import run_worker
    from asterism.serving.worker.settings import WorkerSettings

    served, folder, stores = _places(bundle, state, config)
    stop = threading.Event()

    def on_signal(number: int, _: object) -> None:
        if stop.is_set() and hurries(number) and not supervised:
            os._exit(1)  # a second signal does not wait for the batches in hand; they come again
        stop.set()

    for number in stop_signals():
        signal.signal(number, on_signal)
    run_worker(
        WorkerSettings(
            bundle=deployed_bundle(folder, served),
            state=folder,
            stores=stores,
            engine_addresses=tuple(engine_at or [engine_address(folder)]),
            gateway_address=gateway_at or gateway_address(folder),
            metrics_port=metrics_port,
            metrics_host=metrics_host,
        ),
        stop,
    )


def _begin(role: str, log_format: LogFormat, supervised: bool = False) -> None:
    """What every process does first; raises `MissingDependencyError`."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"serving needs {', '.join(missing)}; run: pip install 'asterism[serve]'")
    from asterism.serving.logs import configure_logging
    from asterism.serving.supervisor.lifeline import end_with_supervisor

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # As an exception in a callback, as of the collector, it is lost. A supervisor is told as well, and takes an end
        # that comes before its own turn for a failure.
        signal.signal(signal.SIGINT, signal.SIG_IGN if supervised else signal.SIG_DFL)
    os.environ[_LOG_FORMAT] = log_format.value  # for the processes that this one starts
    configure_logging(role, log_format.value)
    if supervised:
        end_with_supervisor()


def _places(bundle: Path | None, state: Path | None, config: Path | None) -> tuple[Path, Path, StoresConfig | None]:
    """The bundle, the state folder, and the stores where a deployment names them; raises `ConfigError`."""
    deployment = load_deployment(config) if config is not None else None
    named = deployment.bundle if deployment is not None else None
    if bundle is None and named is None:
        raise typer.BadParameter("name the bundle to serve", param_hint="'--bundle'")
    served = bundle if bundle is not None else Path(str(named))
    return served, state or default_state_folder(served), deployment.stores if deployment is not None else None


def _factory(named: str | None, device: Device) -> str:
    if named is not None and device is Device.CUDA:
        raise typer.BadParameter("--engine names what loads the model, so --device would say nothing; leave one out.")
    return named or (CUDA_ENGINE if device is Device.CUDA else DEFAULT_ENGINE)


def _check_metrics(port: int | None, host: str) -> None:
    if port is None and host != METRICS_HOST:
        raise ConfigError("--metrics-host says where --metrics-port listens; give --metrics-port too")


def _guard(config: Path | None) -> GuardConfig:
    return load_deployment(config).guard if config is not None else GuardConfig()


def _refuse_options_before(context: typer.Context) -> None:
    """Options of the whole service say nothing to one process of it, so they must not vanish."""
    sources = {one: context.get_parameter_source(one) for one in context.params}
    given = [one for one, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        name = given[0].replace("_", "-")
        raise typer.BadParameter(f"--{name} stands before '{context.invoked_subcommand}'; put it after.")
