"""Dead letters are counted and listed by what they died of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_DEAD = sa.text("status = 'dead'")


def upgrade() -> None:
    op.create_index(
        "ix_signals_dead",
        "signals",
        ["status", "failed_service", "failed_status", "seq"],
        unique=False,
        sqlite_where=_DEAD,
        postgresql_where=_DEAD,
    )
