"""Indexes for search and for what must not be shown.

Titles are found by any part of them, so PostgreSQL indexes their trigrams; where a provider does not
offer `pg_trgm`, search reads all titles and stays right.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the indexes that the database can have."""
    op.execute("CREATE INDEX items_in_order ON items (lower(substr(title, 1, 64)))")
    op.execute("CREATE INDEX items_not_shown ON items (item_id) WHERE NOT (available AND NOT hidden)")
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute("CREATE INDEX items_by_category ON items USING gin (categories jsonb_path_ops)")
    offered = sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
    if op.get_bind().execute(offered).scalar_one():
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        op.execute("CREATE INDEX items_by_title_part ON items USING gin (title gin_trgm_ops)")
