"""Writes a run configuration for a user's own files: recognised columns, a split, sizes that follow from the data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asterism.config.run import DataConfig, EmbeddingConfig, SplitMethod
from asterism.core import records
from asterism.core.errors import DataError, StorageError
from asterism.data.dataset import Dataset
from asterism.data.description import history_lengths
from asterism.data.importing import ImportSummary, import_dataset
from asterism.data.initial_config import Choices, render_config
from asterism.data.readers.contract import read_named_files
from asterism.data.rejects import Rejects
from asterism.data.split import Split
from asterism.data.splits import SMALLEST_SPLITTABLE, by_column, by_time, leave_one_out

_SMALLEST_CODEBOOK, _LARGEST_CODEBOOK = 8, 256
_FEW_EVENTS = 10_000
_MANY_EVENTS = 500_000
_FULL_SOFTMAX_ITEMS = 2_048


@dataclass(frozen=True, slots=True)
class Initialised:
    """A configuration's text and what was learned about the data on the way."""

    text: str
    choices: Choices
    summary: ImportSummary


def initialise(interactions: Path, items: Path | None, users: Path | None, output: Path) -> Initialised:
    """The text of a configuration, to be written to `output`, that trains on these files as they stand.

    Raises `DataError` where a file breaks the contract.
    """
    imported = import_dataset(read_named_files(interactions, items, users), Rejects("stop"))
    choices = choose(imported.dataset, imported.summary)
    files = {"interactions": interactions, "items": items, "users": users}
    places = {name: _relative(file, output.parent) for name, file in files.items() if file is not None}
    text = render_config(output.stem, places, choices)
    return Initialised(text, choices, imported.summary)


def write_config(initialised: Initialised, output: Path, overwrite: bool = False) -> None:
    """Write the text, unless a file is already there; raises `DataError`, and `StorageError` where it cannot."""
    if output.is_dir():
        raise DataError("this is a folder; name the file to write", file=str(output))
    if output.exists() and not overwrite:
        raise DataError("the file exists already; give another name, or --overwrite", file=str(output))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(initialised.text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{output} cannot be written ({error.strerror}); name another place") from error


def choose(dataset: Dataset, summary: ImportSummary) -> Choices:
    """Sizes from counts by the rule that docs/data.md states."""
    users = len(history_lengths(dataset))
    events, items = dataset.interactions.num_rows, dataset.items.num_rows
    values: dict[str, object] = {
        "embeddings.width": _power_of_two(items / 4, 16, 256),
        "semantic_ids.codes": _codes(items),
        "model.width": 32 if events < _FEW_EVENTS else 64,
        "model.dropout": 0.5 if events < _MANY_EVENTS else 0.2,
        "training.batch_users": _power_of_two(users / 50, 16, 64 if events < _MANY_EVENTS else 256),
        "training.epochs": 100 if events < _MANY_EVENTS else 30 if events < 10 * _MANY_EVENTS else 10,
        "training.warmup_steps": 20 if users < 1_000 else 100,
        "training.negatives": 0 if items <= _FULL_SOFTMAX_ITEMS else _FULL_SOFTMAX_ITEMS,
        "decoding.beam": min(200, max(20, items)),
    }
    if not _has_text(dataset):
        values["embeddings.text_weight"] = 0.0
    vectors = [name for name in dataset.items.column_names if name.startswith(records.EMBEDDING_PREFIX)]
    if vectors:
        values["embeddings.precomputed"] = dict.fromkeys(vectors, 1.0)
    renamed = {name: dict(one.renamed_columns) for name, one in summary.tables.items()}
    split = _split(dataset)
    usual: SplitMethod = "leave_one_out" if history_lengths(dataset).max() >= SMALLEST_SPLITTABLE else "by_time"
    return Choices(users, items, events, split or usual, values, renamed, trainable=split is not None)


def _split(dataset: Dataset) -> SplitMethod | None:
    """The first of the `split` column, leave-one-out and time that leaves enough to learn from and to ask, or None."""
    interactions = dataset.interactions
    if records.SPLIT in interactions.column_names:
        parts = set(interactions[records.SPLIT].unique().to_pylist())
        if parts == {"train", "validation", "test"} and _can_be_learned(by_column(dataset)):
            return "by_column"
    if _can_be_learned(leave_one_out(dataset)):
        return "leave_one_out"
    shares = DataConfig(path=".")
    try:
        if _can_be_learned(by_time(dataset, shares.validation_share, shares.test_share)):
            return "by_time"
    except DataError:  # too few different moments
        pass
    return None


def _can_be_learned(split: Split) -> bool:
    return bool(np.any(split.train.lengths >= 2)) and len(split.validation) > 0 and len(split.test) > 0


def _has_text(dataset: Dataset) -> bool:
    names = [name for name in EmbeddingConfig().text_fields if name in dataset.items.column_names]
    present = [dataset.items[name] for name in names]
    return any(column.null_count < len(column) for column in present)


def _codes(items: int) -> int:
    """Codes per level: three levels of them must be able to part the catalogue many times over."""
    return _power_of_two(4 * items ** (1 / 2), _SMALLEST_CODEBOOK, _LARGEST_CODEBOOK)


def _power_of_two(wanted: float, least: int, most: int) -> int:
    value = least
    while value * 2 <= min(wanted, most):
        value *= 2
    return value


def _relative(file: Path, folder: Path) -> str:
    """A path as seen from the configuration's folder; absolute only where the two share no root."""
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return file.resolve().as_posix()
