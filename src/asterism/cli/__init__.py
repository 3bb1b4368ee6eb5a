"""The `asterism` command; one module a group of commands, each importing its rooms only when it runs."""

from asterism.cli.main import main

__all__ = ["main"]
