"""Briefs by when they came and by when their outcome was told, for the digests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TOLD = sa.text("outcome_at IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_briefs_created_at", "briefs", ["created_at", "currency", "event_type", "mrr"], unique=False)
    op.create_index(
        "ix_briefs_outcome_at",
        "briefs",
        ["outcome_at", "outcome", "currency", "mrr"],
        unique=False,
        sqlite_where=_TOLD,
        postgresql_where=_TOLD,
    )
