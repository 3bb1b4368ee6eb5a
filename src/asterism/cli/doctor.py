"""`asterism doctor`: is what a deployment needs there, and is it well?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asterism.core.errors import AsterismError, ConfigError

if TYPE_CHECKING:
    from asterism.config.stores import StoresConfig
    from asterism.stores.checking import Finding


def doctor(
    config: Annotated[
        Path | None, typer.Option(help="The deployment's file, with `bundle` and `\\[stores]`.", show_default=False)
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The state folder of the service; beside the bundle by default.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="The bundle that the service is started with; the file's by default.")
    ] = None,
    migrate: Annotated[bool, typer.Option("--migrate", help="First bring the database's schema up to date.")] = False,
) -> None:
    """Check every store and the served bundle, also beside a running service; status 1 where something is wrong."""
    from asterism.core.progress import track
    from asterism.stores.checking import check_stores
    from asterism.stores.opening import open_warm

    stores, folder, started_with = _places(config, state, bundle)
    if migrate:
        open_warm(stores.catalogue, stores.timeout_seconds).catalogue.close()
    urls = stores.model_dump(exclude={"timeout_seconds"})
    checked = check_stores(urls, stores.timeout_seconds)
    findings = list(track(checked, "checking stores", total=len(urls)))
    findings += _check_bundle(folder, started_with)
    for one in findings:
        latency = "" if one.latency_ms is None else f"; written and read in {one.latency_ms:.1f} ms"
        word, where = ("well ", f"{one.where}: ") if one.is_well else ("wrong", "")
        print(f"{word}  {one.store:<9}  {where}{one.said}{latency}")
    wrong = sum(not one.is_well for one in findings)
    print(f"{len(findings) - wrong} of {len(findings)} are well")
    raise typer.Exit(1 if wrong else 0)


def _places(
    config: Path | None, state: Path | None, bundle: Path | None
) -> tuple[StoresConfig, Path | None, Path | None]:
    """The stores, the state folder and the bundle, as `asterism serve` finds them by the same options."""
    from asterism.config.stores import DeploymentConfig, StoresConfig, load_deployment
    from asterism.serving.places import default_state_folder

    deployment = load_deployment(config) if config is not None else DeploymentConfig()
    named = Path(deployment.bundle) if deployment.bundle is not None else None
    started_with = bundle if bundle is not None else named
    folder = state or (default_state_folder(started_with) if started_with is not None else None)
    if config is not None:
        return deployment.stores, folder, started_with
    if folder is None:
        raise ConfigError("say what to check: --config with the deployment's file, or --state with a service's folder")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not there, so no service ran on it; name its folder with --state")
    return StoresConfig.embedded(folder), folder, started_with


def _check_bundle(folder: Path | None, started_with: Path | None) -> list[Finding]:
    """Of the bundle that was deployed last, or else of that which the service is started with."""
    from asterism.core.bundle import Bundle
    from asterism.serving.deploying import deployed_bundle, last_deployed
    from asterism.stores.checking import Finding

    served = started_with
    try:
        if folder is not None:
            served = last_deployed(folder) if started_with is None else deployed_bundle(folder, started_with)
        if served is None:
            return []
        bundle = Bundle.open(served)
    except AsterismError as error:
        return [Finding("bundle", str(served), False, str(error))]
    said = f"version {bundle.version}, all {len(bundle.manifest.parts)} parts as they were written"
    if started_with is not None and served != started_with:
        said += f"; deployed in place of {started_with}"
    return [Finding("bundle", str(served), True, said)]
