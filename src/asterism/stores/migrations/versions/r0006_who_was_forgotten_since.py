"""Numbers the forgotten, so that whoever follows reads those alone whom it has not heard of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the column and the counter; who was forgotten before has the number 0."""
    op.add_column("forgotten_users", sa.Column("change", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("forgotten_users_by_change", "forgotten_users", ["change"])
    op.create_table(
        "forgotten_user_changes",
        sa.Column("only", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
    )
    op.execute("INSERT INTO forgotten_user_changes VALUES (1, 0)")
