"""`asterism serve`: a bundle as a running service."""

from __future__ import annotations

import asyncio
import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asterism.core.errors import MissingDependencyError


class LogFormat(StrEnum):
    """For people at a terminal, or a JSON object a line."""

    TEXT = "text"
    JSON = "json"


_NEEDED = ("fastapi", "uvicorn", "msgspec")


def serve(
    bundle: Annotated[Path, typer.Option(help="The folder of the bundle to serve.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    state: Annotated[
        Path | None, typer.Option(help="Where feedback and the catalogue are kept; beside the bundle by default.")
    ] = None,
    deadline_ms: Annotated[
        int, typer.Option(min=1, max=60_000, help="How long the model may take before an answer does without it.")
    ] = 200,
    engines: Annotated[
        int, typer.Option(min=1, max=256, help="How many processes answer, with a model and a thread each.")
    ] = 1,
    min_beam: Annotated[
        int | None,
        typer.Option(min=1, help="As narrow as the beam may get under load; an eighth of the bundle's by default."),
    ] = None,
    pin: Annotated[bool, typer.Option(help="Keep each engine process to one processor core.")] = False,
    reranking: Annotated[
        Path | None, typer.Option(help="How slates are made of candidates (TOML); in the model's order by default.")
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="How the log is written to stderr.")] = LogFormat.TEXT,
    engine: Annotated[
        str | None, typer.Option(help="The function that loads the model, as module:function.", hidden=True)
    ] = None,
) -> None:
    """Serve recommendations over HTTP until SIGTERM or Ctrl-C."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"serving needs {', '.join(missing)}; run: pip install 'asterism[serve]'")
    from asterism.config import RerankingConfig, load_reranking_config
    from asterism.config.guard import GuardConfig
    from asterism.serving.http import server
    from asterism.serving.http.gate import open_gate
    from asterism.serving.logs import configure_logging
    from asterism.serving.service import DEFAULT_ENGINE, ServiceSettings, default_state_folder, open_service

    configure_logging("gateway", log_format.value)
    slates = load_reranking_config(reranking) if reranking is not None else RerankingConfig()
    taken = server.take_port(host, port)
    settings = ServiceSettings(
        bundle=bundle,
        state=state or default_state_folder(bundle),
        engine=engine or DEFAULT_ENGINE,
        deadline_seconds=deadline_ms / 1000,
        engines=engines,
        min_beam=min_beam,
        pin=pin,
        reranking=slates,
    )
    service = open_service(settings)
    gate = open_gate(GuardConfig(), settings.deployment, service.hot.limits, host)
    asyncio.run(server.serve(service, taken, lambda line: print(line, flush=True), gate))
