"""Items and images; a file that an earlier service wrote has them, and is taken over as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables where they are not there."""
    if not sa.inspect(op.get_bind()).has_table("items"):
        _create()
    op.create_table(
        "catalogue_changes",
        sa.Column("only", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
    )
    op.execute("INSERT INTO catalogue_changes VALUES (1, 0)")


def _create() -> None:
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "items",
        sa.Column("item_id", text, primary_key=True, nullable=False),
        sa.Column("title", text, nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("categories", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("brand", sa.Text()),
        sa.Column("price", sa.Double()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger()),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("bundle_version", sa.Text()),
    )
    op.create_table(
        "images",
        sa.Column("item_id", text, primary_key=True, nullable=False),
        sa.Column("svg", sa.Text(), nullable=False),
    )
