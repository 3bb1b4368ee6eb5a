"""Arrays kept on disk under the hash of what they were computed from."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from asterism.core.hashing import hash_array, hash_value

CACHE_ENV = "ASTERISM_CACHE"


class CacheWarning(UserWarning):
    """A cached array was broken or could not be kept; the result is right all the same."""


def default_cache_folder() -> Path:
    """`embeddings` under the folder that ASTERISM_CACHE names, else under `.cache` here."""
    return Path(os.environ.get(CACHE_ENV) or ".cache") / "embeddings"


def cached_array(
    folder: Path, source: dict[str, Any], compute: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The array computed from what `source` (JSON-able) describes, from disk where it is there and whole."""
    file = folder / f"{hash_value(source)}.safetensors"
    if file.is_file():
        found = _read(file)
        if found is not None:
            return found
        warnings.warn(f"{file} is broken; its content is computed anew", CacheWarning, stacklevel=2)
    array = compute()
    try:
        _write(file, array)
    except OSError as error:
        warnings.warn(f"{file} could not be kept ({error}); the next run computes it again", CacheWarning, stacklevel=2)
    return array


def _read(file: Path) -> NDArray[np.float32] | None:
    try:
        stored = load_file(file)
        array, digest = stored["array"], stored["sha256"].tobytes().hex()
    except (OSError, SafetensorError, KeyError):
        return None
    return array if hash_array(array) == digest else None


def _write(file: Path, array: NDArray[np.float32]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    digest = np.frombuffer(bytes.fromhex(hash_array(array)), dtype=np.uint8)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".writing-")
    os.close(handle)
    try:
        save_file({"array": np.ascontiguousarray(array), "sha256": digest}, name)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
