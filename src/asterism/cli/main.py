"""Puts the groups of commands together and turns Asterism's own errors into one clear sentence."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from asterism.cli import serve
from asterism.core.errors import AsterismError

app = typer.Typer(
    name="asterism",
    help="A generative recommender that a team can really run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def version() -> None:
    """Print the version."""
    from asterism import __version__

    print(__version__)


app.command()(serve.serve)


@app.callback()
def _root() -> None:
    """A generative recommender that a team can really run."""


def main() -> None:
    """Run the command line; an Asterism error ends it with status 2 and its sentence on stderr."""
    try:
        app()
    except AsterismError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error[/] {type(error).__name__}:", end=" ")
        print(error, file=sys.stderr)
        sys.exit(2)
