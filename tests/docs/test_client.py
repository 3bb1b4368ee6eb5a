"""The client that the pages show does the whole loop against a real service."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from serving.running import Server
from serving.small_market import write_bundle

ROOT = Path(__file__).parents[2]
PAGE, README = ROOT / "docs" / "client.md", ROOT / "README.md"


def test_the_readme_shows_the_same_client() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code in README.read_text(encoding="utf-8")


def test_the_client_of_ten_lines_does_the_whole_loop(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    assert (code.count("http://127.0.0.1:8000"), code.count("timeout=2.0")) == (1, 1)
    write_bundle(tmp_path / "bundle")
    said = io.StringIO()
    with Server(tmp_path / "bundle", tmp_path / "state") as server:
        scope: dict[str, object] = {}
        with contextlib.redirect_stdout(said):
            patient = code.replace("timeout=2.0", "timeout=60.0")  # a slow machine is not what the page is about
            exec(patient.replace("http://127.0.0.1:8000", str(server.http.base_url).rstrip("/")), scope)
        scope["api"].close()  # type: ignore[attr-defined]
    assert said.getvalue().startswith("1 popular → model ['A star among ")
