"""Other names for the contract's columns, so that a file keeps the names its owner gave them."""

from __future__ import annotations

import pyarrow as pa

from asterism.core import records
from asterism.core.errors import DataError
from asterism.data.schema import Contract, TableName

#: Canonical column → names also understood, in order of preference. Case, `_`, `-`, `.` and spaces do not count.
ALIASES: dict[TableName, dict[str, tuple[str, ...]]] = {
    TableName.INTERACTIONS: {
        records.USER_ID: ("user", "uid", "userid", "customer_id", "visitor_id", "member_id", "reviewer_id"),
        records.ITEM_ID: (
            "item", "iid", "itemid", "movie_id", "product_id", "parent_asin", "asin", "article_id", "video_id",
            "book_id", "track_id", "song_id", "business_id",
        ),
        records.TIMESTAMP: ("ts", "time", "unix_time", "unix_review_time", "event_time", "unix_timestamp"),
        records.ACTION: ("event", "event_type", "action_type", "behavior", "behavior_type", "interaction_type"),
        records.VALUE: ("rating", "overall", "score", "stars", "dwell_seconds"),
        records.SESSION_ID: ("session",),
        records.SCENE: ("surface",),
        records.DEVICE: ("device_type",),
        records.LOCATION: ("city", "region"),
        records.SPLIT: ("subset", "fold"),
    },
    TableName.ITEMS: {
        records.ITEM_ID: (
            "item", "iid", "itemid", "movie_id", "product_id", "parent_asin", "asin", "article_id", "video_id",
            "book_id", "track_id", "song_id", "business_id", "id",
        ),
        records.TITLE: ("name", "item_name", "item_title", "product_name", "product_title", "movie_title", "headline"),
        records.DESCRIPTION: ("desc", "summary", "abstract", "text"),
        records.CATEGORIES: ("category", "genres", "genre", "tags", "class"),
        records.BRAND: ("store", "manufacturer", "publisher"),
        records.PRICE: ("sales_price",),
        records.CREATED_AT: ("created", "publish_time", "release_timestamp"),
        records.IMAGE: ("image_url", "im_url", "img_url", "thumbnail"),
        records.AVAILABLE: ("in_stock", "is_available"),
    },
    TableName.USERS: {records.USER_ID: ("user", "uid", "userid", "customer_id", "visitor_id", "member_id", "id")},
}  # fmt: skip

#: A log of ratings calls its value one of these; its events are then of the action `rating`.
_RATING_NAMES = frozenset({"rating", "overall", "stars"})


def rename_columns(table: pa.Table, contract: Contract, file: str) -> tuple[pa.Table, dict[str, str]]:
    """The table under canonical names, and what was renamed ({name in the file: canonical name}).

    A canonical column always wins over an alias. Raises `DataError` naming a required column that is missing.
    """
    doubled = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if doubled:
        raise DataError(f"the file has more than one column named {', '.join(doubled)}; keep one", file=file)
    renamed: dict[str, str] = {}
    for canonical in contract.schema.names:
        found = None if canonical in table.column_names else _find(table.column_names, canonical, contract.name)
        if found is not None and found not in renamed:
            renamed[found] = canonical
    table = table.rename_columns([renamed.get(name, name) for name in table.column_names])
    _require(table, contract, file)
    return table, renamed


def is_rating_log(renamed: dict[str, str]) -> bool:
    """Whether the value column stood in the file under a name that says "rating"."""
    return any(canonical == records.VALUE and _plain(name) in _RATING_NAMES for name, canonical in renamed.items())


def _find(names: list[str], canonical: str, table: TableName) -> str | None:
    by_plain = {_plain(name): name for name in reversed(names)}
    wanted = (canonical, *ALIASES[table].get(canonical, ()))
    return next((by_plain[_plain(one)] for one in wanted if _plain(one) in by_plain), None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter not in "_-. ")


def _require(table: pa.Table, contract: Contract, file: str) -> None:
    for name in contract.required:
        if name not in table.column_names:
            also = ", ".join(ALIASES[contract.name].get(name, ()))
            raise DataError(
                f"the column is missing; the file has {', '.join(table.column_names)}; "
                f"add the column or rename one (also understood: {also})",
                file=file,
                field=name,
            )
