"""The folder of an export: written aside, and put in place only once it is whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from asterism.core.errors import StorageError
from asterism.decoding.loading import TrainedRecommender

#: What an export says of itself; a folder with this file may be replaced by a later export.
MANIFEST: Final = "export.json"
#: The ids of the items, in the order of the indices that graphs read and answer.
ITEM_IDS: Final = "item_ids.json"


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to write to, which takes the target's place at the end, and is gone after an error.

    Raises `StorageError` where something else than an earlier export is in that place.
    """
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or (target / MANIFEST).is_file())):
        raise StorageError(f"{target} exists and is no earlier export; name another place with --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        made = Path(scratch) / "new"
        made.mkdir()
        yield made
        if target.exists():
            target.rename(Path(scratch) / "old")
        made.rename(target)


def write_item_ids(trained: TrainedRecommender, folder: Path) -> None:
    """The list of ids (JSON)."""
    (folder / ITEM_IDS).write_text(json.dumps(list(trained.item_ids), ensure_ascii=False), encoding="utf-8")


def write_manifest(trained: TrainedRecommender, folder: Path, facts: dict[str, Any]) -> None:
    """What was exported of which bundle (JSON)."""
    of_bundle = {"bundle": trained.bundle.version, "catalogue": trained.bundle.fact("items_hash")}
    (folder / MANIFEST).write_text(json.dumps(of_bundle | facts, indent=2) + "\n", encoding="utf-8")
