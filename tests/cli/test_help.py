"""What `--help` says of every command: nothing of it is lost on the way to the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
import typer.main
from typer.testing import CliRunner

from asterism.cli.main import app


def paths(command: click.Command, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield before
    for name, one in getattr(command, "commands", {}).items():
        yield from paths(one, (*before, name))


COMMANDS = list(paths(typer.main.get_command(app)))


def test_there_are_commands() -> None:
    assert {(), ("doctor",), ("keys", "create"), ("serve", "worker")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_word_in_backticks_is_taken_for_markup(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "400"}, catch_exceptions=False)
    assert result.exit_code == 0
    assert "``" not in result.output
