"""The pinned versions are ones that pip takes as constraints, and none that we ask for by name is left open."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"([A-Za-z0-9._-]+)==[0-9][^\s+]*")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> list[str]:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_every_constraint_is_a_name_and_a_version() -> None:
    wrong = [line for line in pinned() if not PIN.fullmatch(line)]
    assert wrong == [], "pip refuses editable installs and paths as constraints, and a fresh `make setup` with them"


def test_whatever_we_ask_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {normal(re.split(r"[\[<>=!~; ]", one, maxsplit=1)[0]) for one in wanted} - {"asterism"}
    assert names <= {normal(line.partition("==")[0]) for line in pinned()}
