"""Finds the data that a configuration names, and loads it."""

from __future__ import annotations

import os
from pathlib import Path

from asterism.config.run import DataConfig
from asterism.core.errors import DataError
from asterism.data.dataset import Dataset
from asterism.data.importing import Imported, import_dataset
from asterism.data.readers.contract import read_named_files
from asterism.data.readers.detection import read_folder
from asterism.data.rejects import Rejects

DATA_VARIABLE = "ASTERISM_DATA"
DEFAULT_DATA_FOLDER = "data"
_FILE_KEYS = ("interactions", "items", "users")


def load_dataset(folder: Path) -> Dataset:
    """Read and check a data set's folder, imported or in any known format; raises `DataError` at the first bad row."""
    return load_with_summary(folder).dataset


def load_with_summary(folder: Path) -> Imported:
    """Like `load_dataset`, with what was noticed on the way."""
    return import_dataset(read_folder(folder), Rejects("stop"))


def resolve_data(config: DataConfig, config_folder: Path) -> Dataset:
    """Load the data that a configuration names, by folder or by files; relative paths start at its own folder.

    Raises `DataError` naming every place where it was looked for.
    """
    if config.path is not None:
        return load_dataset(_find(config.path, _folder_places(config.path, config_folder)))
    named = (config.interactions, config.items, config.users)
    interactions, items, users = (None if one is None else _find(one, [config_folder / one]) for one in named)
    assert interactions is not None, "DataConfig holds either a path or interactions"
    return import_dataset(read_named_files(interactions, items, users), Rejects("stop")).dataset


def images_folder(config: DataConfig, config_folder: Path) -> Path:
    """Where relative paths of the `image` column start: the folder of the data set, or of the items' file."""
    if config.path is not None:
        return _find(config.path, _folder_places(config.path, config_folder))
    return (config_folder / (config.items or config.interactions or "")).parent


def data_moved_to(folder: Path, config: DataConfig) -> DataConfig:
    """The same data in another folder: its files under their old names where they lie there, else the folder itself."""
    names = {key: Path(one).name for key in _FILE_KEYS if (one := getattr(config, key)) is not None}
    if names and all((folder / name).is_file() for name in names.values()):
        places = {key: str(folder / name) for key, name in names.items()}
        return config.model_copy(update=places)
    return config.model_copy(update={"path": str(folder), **dict.fromkeys(_FILE_KEYS)})


def data_home() -> Path:
    """The folder that holds data sets: the one ASTERISM_DATA names, else `./data`."""
    return Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA_FOLDER)


def _folder_places(path: str, config_folder: Path) -> list[Path]:
    return [config_folder / path, data_home() / path]


def _find(name: str, places: list[Path]) -> Path:
    for place in places:
        if place.exists():
            return place
    distinct = list(dict.fromkeys(place.absolute() for place in places))
    looked = " nor at ".join(str(place) for place in distinct)
    if len(distinct) == 1:
        advice = "check the path; `asterism evaluate` takes another folder with --data"
        raise DataError(f"the data {name!r} is not at {looked}; {advice}")
    raise DataError(f"the data {name!r} is neither at {looked}; set {DATA_VARIABLE} to the folder that holds it")
