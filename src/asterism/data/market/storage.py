"""A market on disk: the contract's tables, and `truth.npz` and `truth.json` beside them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from asterism.core.errors import ConfigError, DataError, StorageError
from asterism.core.ids import IdMap
from asterism.core.records import ACTION, ACTION_CODES, ITEM_ID, POSITIVE_ACTIONS, TIMESTAMP, USER_ID
from asterism.data.dataset import INTERACTIONS_FILE, ITEMS_FILE, USERS_FILE, Dataset, fingerprint
from asterism.data.market.config import Blend, MarketConfig
from asterism.data.market.latent import ItemTruth, UserTruth
from asterism.data.sequences import Sequences

TRUTH_ARRAYS: Final = "truth.npz"
TRUTH_CONFIG: Final = "truth.json"
_FORMAT: Final = 1

T = TypeVar("T", ItemTruth, UserTruth)


def save(folder: Path, config: MarketConfig, items: ItemTruth, users: UserTruth, tables: Dataset) -> None:
    """Write tables and truth; raises `StorageError` where the folder cannot be written."""
    arrays = {**_pack("items", items), **_pack("users", users)}
    try:
        tables.save(folder)
        np.savez_compressed(folder / TRUTH_ARRAYS, **arrays)
        facts = {"format": _FORMAT, "config": asdict(config), "tables": fingerprint(folder)}
        (folder / TRUTH_CONFIG).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error}); choose another folder") from error


def load(folder: Path) -> tuple[MarketConfig, ItemTruth, UserTruth, Dataset]:
    """Read what `save` wrote; raises `DataError` naming the file that is missing or wrong."""
    for name in (TRUTH_CONFIG, TRUTH_ARRAYS, INTERACTIONS_FILE, ITEMS_FILE, USERS_FILE):
        if not (folder / name).is_file():
            raise DataError("there is no such file; `asterism data simulate` writes it", file=str(folder / name))
    config, tables_then = _read_facts(folder / TRUTH_CONFIG)
    if fingerprint(folder) != tables_then:
        raise DataError("the truth does not belong to the tables beside it; simulate again", file=str(folder))
    try:
        with np.load(folder / TRUTH_ARRAYS) as arrays:
            items, users = _unpack("items", arrays, ItemTruth), _unpack("users", arrays, UserTruth)
        tables = Dataset(*(pq.read_table(folder / name) for name in (INTERACTIONS_FILE, ITEMS_FILE, USERS_FILE)))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, pa.ArrowInvalid) as error:
        reason = f"a file of this market cannot be read ({error}); simulate it again"
        raise DataError(reason, file=str(folder)) from error
    return config, items, users, tables


def positive_sequences(interactions: pa.Table, users: IdMap, items: IdMap) -> Sequences:
    """All users' engagements; `interactions` is sorted by user and time, as `save` wrote it."""
    wanted = pa.array(sorted(one.value for one in POSITIVE_ACTIONS))
    rows = interactions.filter(pc.is_in(interactions[ACTION], value_set=wanted))
    codes = pa.array([one for one in ACTION_CODES])
    of_user = _dense(rows[USER_ID], pa.array(users.ids))
    counts = np.bincount(of_user, minlength=len(users))
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        items=_dense(rows[ITEM_ID], pa.array(items.ids)).astype(np.int32),
        timestamps=rows[TIMESTAMP].to_numpy(),
        actions=_dense(rows[ACTION], codes).astype(np.int8),
    )


def _dense(column: pa.ChunkedArray, values: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    found: np.ndarray[Any, np.dtype[np.int64]] = pc.index_in(column, value_set=values).to_numpy().astype(np.int64)
    return found


def _pack(name: str, truth: ItemTruth | UserTruth) -> dict[str, Any]:
    return {f"{name}_{one.name}": getattr(truth, one.name) for one in fields(truth)}


def _unpack(name: str, arrays: Any, kind: type[T]) -> T:
    return kind(**{one.name: arrays[f"{name}_{one.name}"] for one in fields(kind)})


def _read_facts(file: Path) -> tuple[MarketConfig, dict[str, str]]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["format"] != _FORMAT:
            raise DataError(f"format {raw['format']} is not {_FORMAT}; simulate again", file=str(file))
        blends = {name: Blend(**raw["config"][name]) for name in ("opening", "browsing")}
        return MarketConfig(**{**raw["config"], **blends}), raw["tables"]
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(f"cannot be read ({error!r}); simulate again", file=str(file)) from error
