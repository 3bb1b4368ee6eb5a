"""From the simulation's arrays to the contract's tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asterism.core import records
from asterism.core.progress import track
from asterism.core.records import ACTIONS
from asterism.data.dataset import Dataset
from asterism.data.market.catalogue import ItemTexts
from asterism.data.market.category import subcategories
from asterism.data.market.config import DAY_SECONDS, MarketConfig
from asterism.data.market.covers import draw_cover
from asterism.data.market.latent import CITIES, DEVICES, KINDS, ItemTruth, UserTruth
from asterism.data.market.simulation import SCENES, Log


def build_dataset(config: MarketConfig, items: ItemTruth, users: UserTruth, texts: ItemTexts, log: Log) -> Dataset:
    """Write the catalogue, the users and the log in the contract's columns."""
    user_ids, item_ids = user_names(len(users)), item_names(len(items))
    return Dataset(
        interactions=_interactions(config, users, log, user_ids, item_ids),
        items=_items(config, items, texts, item_ids),
        users=_users(config, users, user_ids),
    )


def user_names(count: int) -> list[str]:
    """The ids of users in dense order."""
    width = max(5, len(str(count)))
    return [f"u{number:0{width}d}" for number in range(1, count + 1)]


def item_names(count: int) -> list[str]:
    """The ids of items in dense order."""
    width = max(5, len(str(count)))
    return [f"i{number:0{width}d}" for number in range(1, count + 1)]


def _interactions(
    config: MarketConfig, users: UserTruth, log: Log, user_ids: list[str], item_ids: list[str]
) -> pa.Table:
    day = (log.timestamp - config.start_seconds) // DAY_SECONDS
    visit = log.user.astype(np.int64) * config.days + day
    visits, of_row = np.unique(visit, return_inverse=True)
    names = [f"{user_ids[one // config.days]}-{one % config.days:03d}" for one in visits.tolist()]
    return pa.table(
        {
            records.USER_ID: _words(user_ids, log.user),
            records.ITEM_ID: _words(item_ids, log.item),
            records.TIMESTAMP: pa.array(log.timestamp, pa.int64()),
            records.ACTION: _words([one.value for one in ACTIONS], log.action),
            records.VALUE: pa.array(log.value.astype(np.float64), pa.float64(), mask=np.isnan(log.value)),
            records.SESSION_ID: _words(names, of_row),
            records.SCENE: _words(list(SCENES), log.scene),
            records.DEVICE: _words(list(DEVICES), users.device[log.user]),
        }
    )


def _items(config: MarketConfig, items: ItemTruth, texts: ItemTexts, item_ids: list[str]) -> pa.Table:
    subs = [subcategories()[sub] for sub in items.subcategory.tolist()]
    return pa.table(
        {
            records.ITEM_ID: pa.array(item_ids),
            records.TITLE: pa.array(texts.titles),
            records.DESCRIPTION: pa.array(texts.descriptions),
            records.CATEGORIES: pa.array([[sub.parent.name, sub.name] for sub in subs], pa.list_(pa.string())),
            records.BRAND: pa.array(texts.makers),
            records.PRICE: pa.array(items.price.astype(np.float64).round(2), pa.float64(), mask=np.isnan(items.price)),
            records.KIND: _words([kind.value for kind in KINDS], items.kind),
            records.CREATED_AT: pa.array(items.created_at, pa.int64()),
            records.IMAGE: pa.array(_covers(config, items, texts)),
            records.AVAILABLE: pa.array(items.retired_at >= config.end_seconds),
        }
    )


def _covers(config: MarketConfig, items: ItemTruth, texts: ItemTexts) -> list[str]:
    """Drawn art as SVG text, so that the tables hold all there is to show."""
    subs = [subcategories()[sub] for sub in items.subcategory.tolist()]
    wanted = list(zip(subs, texts.titles, items.style, strict=True))
    return [
        draw_cover(sub, title, style, [config.seed, 5, item])
        for item, (sub, title, style) in enumerate(track(wanted, "drawing covers"))
    ]


def _users(config: MarketConfig, users: UserTruth, user_ids: list[str]) -> pa.Table:
    joined = config.start_seconds + users.joined_day.astype(np.int64) * DAY_SECONDS
    return pa.table(
        {
            records.USER_ID: pa.array(user_ids),
            records.DEVICE: _words(list(DEVICES), users.device),
            records.LOCATION: _words(list(CITIES), users.city),
            "joined_at": pa.array(joined, pa.int64()),
        }
    )


def _words(words: list[str], codes: NDArray[Any]) -> pa.Array:
    """Plain strings from codes, without a Python object a row."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words)).cast(pa.string())
