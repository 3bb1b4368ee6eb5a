from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _child_finds_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = (TESTS, TESTS.parent / "src", TESTS.parent / "benchmarks")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
