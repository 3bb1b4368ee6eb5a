"""What the pages say exists: linked files, rooms of the map, commands and their options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from asterism.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
COMMAND = re.compile(r"(?:^|[\s/])asterism ([a-z]+.*)$")


def shell_lines(page: Path) -> list[str]:
    """Lines of the shell blocks of a page, comments cut off."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every `asterism …` on any page."""
    found = [(page.name, hit[1]) for page in PAGES for line in shell_lines(page) if (hit := COMMAND.search(line))]
    assert len(found) >= 10
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_and_option_exists(page: str, line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = line.split()
    while words and hasattr(command, "commands") and not (words[0].startswith("--") and command.invoke_without_command):
        name = words.pop(0)
        assert name in command.commands, f"{page}: there is no command {name!r}"
        command = command.commands[name]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    unknown = [word for word in words if word.startswith("--") and word not in known]
    assert not unknown, f"{page}: {unknown} of {line!r}"


def test_the_readme_names_every_room() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [path.name for path in (ROOT / "src" / "asterism").iterdir() if (path / "__init__.py").is_file()]
    assert len(rooms) >= 12
    assert [room for room in rooms if f"\n  {room}/" not in text] == []


def test_the_makefile_has_the_targets_that_pages_name() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for named in re.findall(r"(?:^|`|\s)make ([a-z]+)(?=\s|`|$)", "\n".join(shell_lines(page))):
            assert named in targets, f"{page.name}: make {named}"
