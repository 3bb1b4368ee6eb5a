"""`asterism doctor`: is what a deployment needs there, and is it well?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    config: Annotated[Path, typer.Option(help="The deployment's file, with `bundle` and `\\[stores]`.")],
    migrate: Annotated[bool, typer.Option("--migrate", help="First bring the database's schema up to date.")] = False,
) -> None:
    """Check every store and the bundle of a deployment; status 1 where something is wrong."""
    from asterism.config.stores import load_deployment
    from asterism.core.bundle import Bundle
    from asterism.core.errors import AsterismError
    from asterism.core.progress import track
    from asterism.stores.checking import Finding, check_stores
    from asterism.stores.opening import open_warm

    deployment = load_deployment(config)
    if migrate:
        open_warm(deployment.stores.catalogue, deployment.stores.timeout_seconds).catalogue.close()
    urls = deployment.stores.model_dump(exclude={"timeout_seconds"})
    checked = check_stores(urls, deployment.stores.timeout_seconds)
    findings = list(track(checked, "checking stores", total=len(urls)))
    if deployment.bundle is not None:
        try:
            bundle = Bundle.open(Path(deployment.bundle))
            said = f"version {bundle.version}, all {len(bundle.manifest.parts)} parts as they were written"
            findings.append(Finding("bundle", deployment.bundle, True, said))
        except AsterismError as error:
            findings.append(Finding("bundle", deployment.bundle, False, str(error)))
    for one in findings:
        latency = "" if one.latency_ms is None else f"; written and read in {one.latency_ms:.1f} ms"
        word, where = ("well ", f"{one.where}: ") if one.is_well else ("wrong", "")
        print(f"{word}  {one.store:<9}  {where}{one.said}{latency}")
    wrong = sum(not one.is_well for one in findings)
    print(f"{len(findings) - wrong} of {len(findings)} are well")
    raise typer.Exit(1 if wrong else 0)
