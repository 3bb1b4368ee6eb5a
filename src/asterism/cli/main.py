"""Puts the groups of commands together and turns Asterism's own errors into one clear sentence."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from asterism import __version__
from asterism.cli import data, evaluate, init, serve, sids, train
from asterism.core.errors import AsterismError

app = typer.Typer(
    name="asterism",
    help="A generative recommender that a team can really run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("init")(init.init_command)
app.add_typer(data.app, name="data")
app.add_typer(sids.app, name="sids")
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(serve.serve)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run the command line; an Asterism error ends it with status 2 and its sentence on stderr."""
    try:
        app()
    except AsterismError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error[/] {type(error).__name__}:", end=" ")
        print(error, file=sys.stderr)
        sys.exit(2)
