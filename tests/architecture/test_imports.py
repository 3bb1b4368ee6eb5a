"""Imports point down the floors of the design, make no cycle, and none hides in a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "asterism"

#: Highest first; a room imports only from floors below its own, or from itself.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"cli"}),
    frozenset({"training", "serving"}),
    frozenset({"cold_start", "experiments"}),
    frozenset({"evaluation"}),
    frozenset({"decoding"}),
    frozenset({"models"}),
    frozenset({"semantic_ids"}),
    frozenset({"embeddings"}),
    frozenset({"data"}),
    frozenset({"config", "stores"}),
    frozenset({"core"}),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


class Import(NamedTuple):
    file: str
    line: int
    module: str
    imported: str
    hidden: bool  # stands inside a function


def module_name(path: Path, root: Path) -> str:
    parts = ("asterism", *path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name == "asterism" or name.startswith("asterism."):
                yield Import(str(path), node.lineno, module_name(path, root), name, id(node) in hidden)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else None


def offences(root: Path) -> list[str]:
    found: list[str] = []
    for path in sorted(root.rglob("*.py")):
        for one in imports_of(path, root):
            importer, imported = room_of(one.module), room_of(one.imported)
            if importer is None or imported is None:
                continue
            if importer != imported and FLOOR_OF[imported] <= FLOOR_OF[importer]:
                found.append(f"{one.file}:{one.line}: {importer} must not import {imported} ({one.imported})")
            if one.hidden and importer != "cli":
                found.append(f"{one.file}:{one.line}: {one.imported} is imported inside a function; move it to the top")
    return found


def cycle(root: Path) -> list[str]:
    modules = {module_name(path, root) for path in root.rglob("*.py")}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for path in root.rglob("*.py"):
        for one in imports_of(path, root):
            target = one.imported if one.imported in modules else one.imported.rpartition(".")[0]
            if target in modules and target != one.module:
                graph[one.module].add(target)
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph[module]):
            if loop := visit(target, [*trail, module]):
                return loop
        done.add(module)
        return []

    return next((loop for module in sorted(modules) if (loop := visit(module, []))), [])


def test_every_room_stands_on_a_floor() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= set(FLOOR_OF), f"rooms without a floor: {sorted(rooms - set(FLOOR_OF))}"
    assert {"core", "data", "decoding", "serving"} <= rooms


def test_imports_point_down() -> None:
    assert offences(SOURCE) == []


def test_no_cycle() -> None:
    assert cycle(SOURCE) == []


def test_config_needs_no_torch() -> None:
    for path in (SOURCE / "config").rglob("*.py"):
        assert "torch" not in path.read_text(encoding="utf-8"), f"{path} must not know torch"


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("serving/a.py", "from asterism.training import b", "serving must not import training"),
        ("core/a.py", "import asterism.data.b", "core must not import data"),
        ("models/a.py", "def f():\n    from asterism.core import b", "imported inside a function"),
    ],
)
def test_an_offender_is_named(tmp_path: Path, file: str, text: str, expected: str) -> None:
    target = tmp_path / file
    target.parent.mkdir(parents=True)
    target.write_text(text)
    assert [one for one in offences(tmp_path) if expected in one]


def test_a_cycle_is_named(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "a.py").write_text("from asterism.core import b")
    (tmp_path / "core" / "b.py").write_text("import asterism.core.a")
    assert cycle(tmp_path) == ["asterism.core.a", "asterism.core.b", "asterism.core.a"]
