"""What a data set looks like in figures: sizes, shares, quantiles, gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.core import records
from asterism.data.dataset import Dataset
from asterism.data.repeats import codes_of

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Description:
    """Figures of a data set; shares are between 0 and 1, times are Unix seconds."""

    users: int
    items: int
    events: int
    density: float  # distinct (user, item) pairs divided by users times items
    events_per_user: dict[str, float]  # quantile → events
    events_per_item: dict[str, float]  # over items that have any
    actions: dict[str, int]
    first_timestamp: int
    last_timestamp: int
    popularity_gini: float  # 0 = all items alike, towards 1 = one item has it all
    untouched_items_share: float  # in the catalogue, in no event
    unknown_items_share: float  # known by their id only
    missing_item_fields: dict[str, float]  # field → share of items without it


def describe(dataset: Dataset) -> Description:
    """Count a checked data set."""
    interactions, items = dataset.interactions, dataset.items
    per_user, per_item = history_lengths(dataset), item_counts(dataset)
    timestamps: NDArray[np.int64] = interactions[records.TIMESTAMP].to_numpy()
    return Description(
        users=len(per_user),
        items=items.num_rows,
        events=interactions.num_rows,
        density=_distinct_pairs(interactions) / (len(per_user) * items.num_rows),
        events_per_user=_quantiles(per_user),
        events_per_item=_quantiles(per_item[per_item > 0]),
        actions=_action_counts(interactions),
        first_timestamp=int(timestamps.min()),
        last_timestamp=int(timestamps.max()),
        popularity_gini=gini(per_item),
        untouched_items_share=float(np.mean(per_item == 0)),
        unknown_items_share=_known_by_id_only(items),
        missing_item_fields={
            name: items[name].null_count / items.num_rows for name in items.column_names if name != records.ITEM_ID
        },
    )


def history_lengths(dataset: Dataset) -> NDArray[np.int64]:
    """(users,) events of each user, users in first-seen order."""
    codes, users = codes_of(dataset.interactions[records.USER_ID])
    return np.bincount(codes, minlength=len(users))


def item_counts(dataset: Dataset) -> NDArray[np.int64]:
    """(items,) events of each item, in the order of the items table."""
    position = pc.index_in(dataset.interactions[records.ITEM_ID], dataset.items[records.ITEM_ID].combine_chunks())
    return np.bincount(position.drop_null().to_numpy(), minlength=dataset.items.num_rows)


def gini(counts: NDArray[np.int64]) -> float:
    """The Gini coefficient of non-negative counts: 0 where all are equal, (n - 1) / n where one has everything."""
    total = counts.sum()
    if not total:
        return 0.0
    ranks = np.arange(1, len(counts) + 1)
    return float(2 * np.sum(ranks * np.sort(counts)) / (len(counts) * total) - (len(counts) + 1) / len(counts))


def _distinct_pairs(interactions: pa.Table) -> int:
    users, _ = codes_of(interactions[records.USER_ID])
    items, distinct_items = codes_of(interactions[records.ITEM_ID])
    return len(np.unique(users * len(distinct_items) + items))


def _quantiles(values: NDArray[np.int64]) -> dict[str, float]:
    return {f"{share:g}": float(value) for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def _action_counts(interactions: pa.Table) -> dict[str, int]:
    codes, distinct = codes_of(interactions[records.ACTION])
    counts = dict(zip(distinct.to_pylist(), np.bincount(codes).tolist(), strict=True))
    return dict(sorted(counts.items(), key=lambda one: -one[1]))


def _known_by_id_only(items: pa.Table) -> float:
    nothing = np.ones(items.num_rows, dtype=bool)
    for name in items.column_names:
        if name != records.ITEM_ID:
            nothing &= items[name].is_null().to_numpy()
    return float(nothing.mean())
