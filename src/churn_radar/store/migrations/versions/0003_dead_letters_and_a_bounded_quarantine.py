"""What a dead letter died of, as fields; the size of each quarantined body, so that their sum costs little."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("signals", sa.Column("failed_service", sa.String(length=32), nullable=True))
    op.add_column("signals", sa.Column("failed_status", sa.Integer(), nullable=True))
    op.add_column("quarantined_bodies", sa.Column("size", sa.Integer(), nullable=True))
    op.execute("UPDATE quarantined_bodies SET size = length(body)")
    op.create_index("ix_quarantined_bodies_size", "quarantined_bodies", ["signal_seq", "size"], unique=False)
