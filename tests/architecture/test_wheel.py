"""The wheel holds all that the package reads at run time, so that it works without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "asterism"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return zipfile.ZipFile(folder / build_wheel(str(folder)))
    finally:
        os.chdir(before)


def test_it_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    wanted = {
        f"asterism/{file.relative_to(PACKAGE).as_posix()}"
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {"asterism/py.typed", "asterism/evaluation/templates/report.html.j2"} <= wanted
    assert not wanted - held
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert not [name for name in held if not name.startswith(("asterism/", "asterism-"))]


def test_it_knows_the_public_data_sets(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-m", "asterism", "data", "download", "nothing", "--output", str(tmp_path / "out")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    known = ", ".join(sorted(file.stem for file in (ROOT / "configs" / "datasets").glob("*.toml")))
    assert done.returncode == 2
    assert f"it holds {known}" in done.stderr
