"""Small files for the tests of the data room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from asterism.data.importing import Imported, import_dataset
from asterism.data.readers.contract import read_named_files
from asterism.data.readers.detection import read_folder
from asterism.data.rejects import Rejects

Importer = Callable[..., Imported]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write_file(name: str, content: str | bytes) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write_file


@pytest.fixture
def stop() -> Importer:
    """Import named files, stopping at the first bad row."""

    def run(interactions: Path, items: Path | None = None, **options: object) -> Imported:
        return import_dataset(read_named_files(interactions, items), Rejects("stop"), **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def reject(tmp_path: Path) -> Importer:
    """Import named files, setting bad rows aside; the rejected records come back as `records`."""

    def run(interactions: Path, items: Path | None = None) -> tuple[Imported, list[dict[str, object]]]:
        file = tmp_path / "rejects.jsonl"
        imported = import_dataset(read_named_files(interactions, items), Rejects("reject", file))
        lines = file.read_text().splitlines() if file.exists() else []
        return imported, [json.loads(line) for line in lines]

    return run


@pytest.fixture
def load(tmp_path: Path) -> Importer:
    """Import the folder of the test, in the format that is detected."""

    def run(place: str = ".") -> Imported:
        return import_dataset(read_folder(tmp_path / place), Rejects("stop"))

    return run
