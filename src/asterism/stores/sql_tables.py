"""The tables of the warm truth as SQLAlchemy knows them; `migrations` makes them, and a test holds the two together.

Text is compared by code point, and only ASCII letters are folded, on PostgreSQL as on SQLite.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    false,
    func,
    not_,
)
from sqlalchemy.dialects.postgresql import JSONB

#: Partitions of the behaviours, by the hash of whose they are; fixed when the table is made.
PARTITIONS: Final = 16
#: So much of a title is in the index that orders it: an entry of a B-tree must stay small.
ORDERED_CHARACTERS: Final = 64

METADATA: Final = MetaData()


def text() -> Text:
    """Text that is compared by code point everywhere."""
    plain = Text()
    return plain.with_variant(Text(collation="C"), "postgresql")


def document() -> Any:
    """A JSON value that PostgreSQL can index."""
    return JSON().with_variant(JSONB(), "postgresql")


ITEMS: Final = Table(
    "items",
    METADATA,
    Column("item_id", text(), primary_key=True, nullable=False),
    Column("title", text(), nullable=False),
    Column("description", Text()),
    Column("categories", document(), nullable=False),
    Column("brand", Text()),
    Column("price", Double()),
    Column("kind", Text(), nullable=False),
    Column("created_at", BigInteger()),
    Column("available", Boolean(), nullable=False),
    Column("hidden", Boolean(), nullable=False, server_default=false()),
    Column("bundle_version", Text()),
    Column("changed", BigInteger(), nullable=False, server_default="0"),  # by hand, at which change of all; else 0
    Index("items_by_change", "changed", "item_id"),
)
IS_SHOWN: Final = and_(ITEMS.c.available, not_(ITEMS.c.hidden))
TITLE_START: Final = func.lower(func.substr(ITEMS.c.title, 1, ORDERED_CHARACTERS))

IMAGES: Final = Table(
    "images",
    METADATA,
    Column("item_id", text(), primary_key=True, nullable=False),
    Column("svg", Text(), nullable=False),
)
#: One row, whose number grows with every change of the catalogue.
CATALOGUE_CHANGES: Final = Table(
    "catalogue_changes",
    METADATA,
    Column("only", Integer(), primary_key=True, autoincrement=False),
    Column("number", BigInteger(), nullable=False),
    Column("bundle_version", Text()),  # of the bundle whose items were taken over last
)
#: Items of a bundle that were deleted: the model still knows them, so they must not be recommended.
DELETED_ITEMS: Final = Table("deleted_items", METADATA, Column("item_id", text(), primary_key=True, nullable=False))
USERS: Final = Table(
    "users",
    METADATA,
    Column("user_id", text(), primary_key=True, nullable=False),
    Column("attributes", document(), nullable=False),
)
BEHAVIOURS: Final = Table(
    "behaviours",
    METADATA,
    Column("visitor", text(), primary_key=True, nullable=False),  # u:<user> or s:<session>; the partition key
    Column("event_id", text(), primary_key=True, nullable=False),
    Column("item_id", text(), nullable=False),
    Column("action", Text(), nullable=False),
    Column("timestamp", BigInteger(), nullable=False),
    Column("session_id", Text()),
    Column("value", Double()),
    Column("scene", Text()),
    Column("attribution_id", Text()),
    Index("behaviours_by_time", "visitor", "timestamp"),
    postgresql_partition_by="HASH (visitor)",
)
#: Who was forgotten, as a digest: the bundle that is served still holds their past, which must not come back.
FORGOTTEN_USERS: Final = Table(
    "forgotten_users",
    METADATA,
    Column("digest", text(), primary_key=True, nullable=False),
    Column("at", BigInteger(), nullable=False),
    Column("change", BigInteger(), nullable=False, server_default="0"),
    Index("forgotten_users_by_change", "change"),
)
#: One row, whose number grows with everybody who is forgotten.
FORGOTTEN_USER_CHANGES: Final = Table(
    "forgotten_user_changes",
    METADATA,
    Column("only", Integer(), primary_key=True, autoincrement=False),
    Column("number", BigInteger(), nullable=False),
)
API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("key_id", text(), primary_key=True, nullable=False),
    Column("name", Text(), nullable=False),
    Column("scopes", document(), nullable=False),
    Column("digest", Text(), nullable=False),  # SHA-256 of the token, as hex
    Column("created_at", BigInteger(), nullable=False),
    Column("expires_at", BigInteger()),
    Column("revoked_at", BigInteger()),
    Column("last_used_at", BigInteger()),
    Column("change", BigInteger(), nullable=False),
    Index("api_keys_by_change", "change"),
)
#: One row, whose number grows with every change of the keys.
API_KEY_CHANGES: Final = Table(
    "api_key_changes",
    METADATA,
    Column("only", Integer(), primary_key=True, autoincrement=False),
    Column("number", BigInteger(), nullable=False),
)
