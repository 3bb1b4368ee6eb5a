"""Users, and what they did: partitioned by the hash of the visitor on PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

_PARTITIONS = 16


def upgrade() -> None:
    """Make the tables, and the partitions where there are such."""
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "users",
        sa.Column("user_id", text, primary_key=True, nullable=False),
        sa.Column("attributes", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    )
    op.create_table(
        "behaviours",
        sa.Column("visitor", text, primary_key=True, nullable=False),
        sa.Column("event_id", text, primary_key=True, nullable=False),
        sa.Column("item_id", text, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("session_id", sa.Text()),
        sa.Column("value", sa.Double()),
        sa.Column("scene", sa.Text()),
        sa.Column("attribution_id", sa.Text()),
        postgresql_partition_by="HASH (visitor)",
    )
    if op.get_context().dialect.name == "postgresql":
        for number in range(_PARTITIONS):
            op.execute(
                f"CREATE TABLE behaviours_{number} PARTITION OF behaviours "
                f"FOR VALUES WITH (MODULUS {_PARTITIONS}, REMAINDER {number})"
            )
    op.create_index("behaviours_by_time", "behaviours", ["visitor", "timestamp"])
