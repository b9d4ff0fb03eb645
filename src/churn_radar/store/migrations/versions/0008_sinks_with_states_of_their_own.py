"""How each sink stands, which of them are stopped, and which digests went out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_index("ix_deliveries_sink", "deliveries", ["sink", "status", "seq"], unique=False)
    op.create_table(
        "stopped_sinks",
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sink", name="pk_stopped_sinks"),
    )
    op.create_table(
        "digests",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("period", sa.String(40), nullable=False, comment="the day or the week that it tells of"),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "due_at",
            sa.BigInteger(),
            nullable=False,
            comment="of the next attempt; while one is under way, until when",
        ),
        sa.Column("reason", sa.Text()),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_digests"),
        sa.UniqueConstraint("name", "period", name="uq_digests_name_period"),
    )
