"""Indexes of what is put off by the time when it is due, in place of the one by arrival."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PUT_OFF = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    op.drop_index("ix_signals_put_off", table_name="signals")
    for table in ("signals", "deliveries"):
        op.create_index(
            f"ix_{table}_due",
            table,
            ["status", "due_at"],
            unique=False,
            sqlite_where=_PUT_OFF,
            postgresql_where=_PUT_OFF,
        )
