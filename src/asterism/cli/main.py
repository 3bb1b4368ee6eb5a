"""Puts the groups of commands together and turns Asterism's own errors into one clear sentence."""

from __future__ import annotations

import sys
import warnings
from typing import TextIO

import typer
from rich.console import Console

from asterism import __version__
from asterism.cli import align, data, doctor, evaluate, export, init, keys, serve, sids, train
from asterism.core.errors import AsterismError, StorageError

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
app.command()(align.align)
app.command()(evaluate.evaluate)
app.add_typer(serve.app, name="serve")
app.add_typer(export.app, name="export")
app.add_typer(keys.app, name="keys")
app.command()(doctor.doctor)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run the command line; an Asterism error, or a file that fails us, ends it with status 2 and one sentence."""
    warnings.showwarning = _tell_warning
    try:
        app()
    except AsterismError as error:
        _fail(type(error).__name__, str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename is not None else ""
        _fail(StorageError.__name__, f"{place}{error.strerror or error}; free or name another place, then try again")


def _tell_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning is for the user, to whom the line of code that gave it says nothing."""
    print(f"warning: {message}", file=sys.stderr)


def _fail(kind: str, sentence: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error[/] {kind}:", end=" ")
    print(sentence, file=sys.stderr)
    sys.exit(2)
