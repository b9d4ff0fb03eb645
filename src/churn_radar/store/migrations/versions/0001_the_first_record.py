"""The first record: signals, their story, customers as last seen, briefs and deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "customers",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("cio_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_customers")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_customers_cio_id", "customers", ["cio_id"], unique=False)
    op.create_index("ix_customers_customer_id", "customers", ["customer_id"], unique=False)
    op.create_index("ix_customers_email", "customers", ["email"], unique=False)

    op.create_table(
        "signals",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("signal_id", sa.String(length=40), nullable=False),
        sa.Column("event_key", sa.String(length=80), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.String(length=64), nullable=True),
        sa.Column("metric", sa.Text(), nullable=True),
        sa.Column("object_type", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("cio_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("customer_seq", _SEQ, nullable=True),
        sa.Column("occurred_at", sa.BigInteger(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=True),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("priority", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("triage", sa.Text(), nullable=True),
        sa.Column("joined_to", _SEQ, nullable=True),
        sa.Column("brief_seq", _SEQ, nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["customer_seq"], ["customers.seq"], name=op.f("fk_signals_customer_seq")),
        sa.ForeignKeyConstraint(["joined_to"], ["signals.seq"], name=op.f("fk_signals_joined_to")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_signals")),
        sa.UniqueConstraint("event_key", name=op.f("uq_signals_event_key")),
        sa.UniqueConstraint("signal_id", name=op.f("uq_signals_signal_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_signals_brief_seq",
        "signals",
        ["brief_seq"],
        unique=False,
        sqlite_where=sa.text("brief_seq IS NOT NULL"),
        postgresql_where=sa.text("brief_seq IS NOT NULL"),
    )
    op.create_index(
        "ix_signals_cio_id",
        "signals",
        ["cio_id"],
        unique=False,
        sqlite_where=sa.text("cio_id IS NOT NULL"),
        postgresql_where=sa.text("cio_id IS NOT NULL"),
    )
    op.create_index("ix_signals_customer_id", "signals", ["customer_id"], unique=False)
    op.create_index(
        "ix_signals_customer_seq",
        "signals",
        ["customer_seq", "seq"],
        unique=False,
        sqlite_where=sa.text("customer_seq IS NOT NULL"),
        postgresql_where=sa.text("customer_seq IS NOT NULL"),
    )
    op.create_index(
        "ix_signals_put_off",
        "signals",
        ["status", "seq", "due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_signals_email", "signals", ["email"], unique=False)
    op.create_index("ix_signals_event_id", "signals", ["event_id", "seq"], unique=False)
    op.create_index(
        "ix_signals_fresh_waiting",
        "signals",
        ["status", "due_at", sa.text("priority DESC"), "seq"],
        unique=False,
        sqlite_where=sa.text("status = 'waiting' AND due_at IS NULL"),
        postgresql_where=sa.text("status = 'waiting' AND due_at IS NULL"),
    )
    op.create_index(
        "ix_signals_joined_to",
        "signals",
        ["joined_to"],
        unique=False,
        sqlite_where=sa.text("joined_to IS NOT NULL"),
        postgresql_where=sa.text("joined_to IS NOT NULL"),
    )
    op.create_index("ix_signals_status_seq", "signals", ["status", "seq"], unique=False)
    op.create_index(
        "ix_signals_waiting",
        "signals",
        ["status", sa.text("priority DESC"), "seq"],
        unique=False,
        sqlite_where=sa.text("status = 'waiting'"),
        postgresql_where=sa.text("status = 'waiting'"),
    )

    op.create_table(
        "briefs",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("brief_id", sa.String(length=40), nullable=False),
        sa.Column("signal_seq", _SEQ, nullable=False),
        sa.Column("customer_seq", _SEQ, nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("cio_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("persona_type", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("mrr", sa.Float(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("research_brief", sa.Text(), nullable=False),
        sa.Column("sections", sa.Text(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("hallucination_risk", sa.String(length=16), nullable=True),
        sa.Column("unsupported_claims", sa.Text(), nullable=False),
        sa.Column("credits_used", sa.Integer(), nullable=False),
        sa.Column("mave_thread_id", sa.Text(), nullable=True),
        sa.Column("mave_message_id", sa.Text(), nullable=True),
        sa.Column("clarified", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("attributes_source", sa.String(length=16), nullable=False),
        sa.Column("attributes_seen_at", sa.BigInteger(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("signal_received_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["customer_seq"], ["customers.seq"], name=op.f("fk_briefs_customer_seq")),
        sa.ForeignKeyConstraint(["signal_seq"], ["signals.seq"], name=op.f("fk_briefs_signal_seq")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_briefs")),
        sa.UniqueConstraint("brief_id", name=op.f("uq_briefs_brief_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_briefs_customer_seq", "briefs", ["customer_seq", "seq"], unique=False)
    op.create_index("ix_briefs_signal_seq", "briefs", ["signal_seq"], unique=False)

    op.create_table(
        "quarantined_bodies",
        sa.Column("signal_seq", _SEQ, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["signal_seq"], ["signals.seq"], name=op.f("fk_quarantined_bodies_signal_seq"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("signal_seq", name=op.f("pk_quarantined_bodies")),
    )
    op.create_table(
        "signal_history",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("signal_seq", _SEQ, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["signal_seq"], ["signals.seq"], name=op.f("fk_signal_history_signal_seq"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_signal_history")),
    )
    op.create_index("ix_signal_history_signal_seq", "signal_history", ["signal_seq", "seq"], unique=False)

    op.create_table(
        "deliveries",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("brief_seq", _SEQ, nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["brief_seq"], ["briefs.seq"], name=op.f("fk_deliveries_brief_seq"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("brief_seq", "sink", name=op.f("uq_deliveries_brief_seq_sink")),
    )
    op.create_index("ix_deliveries_status", "deliveries", ["status", "seq"], unique=False)
