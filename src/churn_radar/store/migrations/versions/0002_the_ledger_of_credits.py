"""The ledger of Mavera credits; briefs that continue another one's thread."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REUSABLE = sa.text("mave_thread_id IS NOT NULL AND reused_brief_id IS NULL AND thread_lost_at IS NULL")
_REUSING = sa.text("reused_brief_id IS NOT NULL")
_UNDER_WAY = sa.text("purpose = 'under_way'")


def upgrade() -> None:
    op.add_column("briefs", sa.Column("reused_brief_id", sa.String(length=40), nullable=True))
    op.add_column("briefs", sa.Column("thread_lost_at", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_briefs_reused_brief_id",
        "briefs",
        ["reused_brief_id"],
        unique=False,
        sqlite_where=_REUSING,
        postgresql_where=_REUSING,
    )
    op.create_index(
        "ix_briefs_reusable",
        "briefs",
        ["persona_type", "event_type", "plan", "created_at"],
        unique=False,
        sqlite_where=_REUSABLE,
        postgresql_where=_REUSABLE,
    )

    op.create_table(
        "credits",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("spent_at", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("signal_seq", _SEQ, nullable=True),
        sa.Column("brief_seq", _SEQ, nullable=True),
        sa.Column("reused_brief_id", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(
            ["signal_seq"], ["signals.seq"], name=op.f("fk_credits_signal_seq"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["brief_seq"], ["briefs.seq"], name=op.f("fk_credits_brief_seq"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_credits")),
    )
    op.create_index("ix_credits_spent_at", "credits", ["spent_at", "purpose", "amount"], unique=False)
    op.create_index(
        "ix_credits_under_way",
        "credits",
        ["reused_brief_id"],
        unique=False,
        sqlite_where=_UNDER_WAY,
        postgresql_where=_UNDER_WAY,
    )
    # Briefs of the release before are what this month has cost so far.
    op.execute(
        "INSERT INTO credits (spent_at, amount, purpose, signal_seq, brief_seq)"
        " SELECT created_at, credits_used, 'brief', signal_seq, seq FROM briefs WHERE credits_used > 0"
    )
