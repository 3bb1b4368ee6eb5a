"""Full text over items; who was forgotten; which items of a bundle were deleted, and whose were taken over last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from asterism.stores import sql_texts

revision = "0005"
down_revision = "0004"

_ROWS = 1_000


def upgrade() -> None:
    """Make the tables, and put in what is there."""
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "forgotten_users",
        sa.Column("digest", text, primary_key=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
    )
    op.create_table("deleted_items", sa.Column("item_id", text, primary_key=True, nullable=False))
    op.add_column("catalogue_changes", sa.Column("bundle_version", sa.Text()))
    connection = op.get_bind()
    sql_texts.make_table(connection)
    items = sa.table(
        "items",
        sa.column("item_id", text),
        sa.column("title"),
        sa.column("brand"),
        sa.column("categories", sa.JSON().with_variant(JSONB(), "postgresql")),
    )
    query = sa.select(items).order_by(items.c.item_id).limit(_ROWS)
    page = connection.execute(query).mappings().all()
    while page:
        sql_texts.put_texts(connection, [dict(row) for row in page])
        page = connection.execute(query.where(items.c.item_id > page[-1]["item_id"])).mappings().all()
