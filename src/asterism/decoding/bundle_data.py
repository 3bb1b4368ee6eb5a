"""The data that a bundle was trained on, found again."""

from __future__ import annotations

from pathlib import Path

from asterism.config import DataConfig
from asterism.core.bundle import Bundle
from asterism.core.errors import BundleError
from asterism.data.dataset import Dataset
from asterism.data.fingerprinting import dataset_fingerprint
from asterism.data.locating import data_moved_to, resolve_data


def data_of_bundle(bundle: Bundle, config: DataConfig, folder: Path | None = None) -> Dataset:
    """Load the bundle's data, from `folder` where it has moved; raises `BundleError` if what is found differs."""
    config = config if folder is None else data_moved_to(folder.resolve(), config)
    dataset = resolve_data(config, Path(bundle.fact("config_folder")))
    try:
        bundle.check_fact("the data found for it", "dataset_fingerprint", dataset_fingerprint(dataset))
    except BundleError as error:
        raise BundleError(f"{error}; name the data it was trained on with --data, or train it again") from error
    return dataset
