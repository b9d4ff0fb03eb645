"""What people did about a brief and what became of the customer: outcomes, owners, reminders, hints, and their sums."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for name, kind in (
        ("outcome", sa.String(16)),
        ("outcome_at", sa.BigInteger()),
        ("owner", sa.Text()),
        ("snoozed_until", sa.BigInteger()),
        ("reminded_at", sa.BigInteger()),
        ("first_contact_at", sa.BigInteger()),
        ("offer_label", sa.String(40)),
        ("counted_at", sa.BigInteger()),
    ):
        op.add_column("briefs", sa.Column(name, kind, nullable=True))
    for name, condition, columns in (
        ("ix_briefs_snoozed", "snoozed_until IS NOT NULL", ["snoozed_until"]),
        ("ix_briefs_reminded", "reminded_at IS NOT NULL", ["reminded_at"]),
        # The service counts them once it runs: what an offer is called is a rule of the code's, not of a database's.
        ("ix_briefs_uncounted", "counted_at IS NULL", ["counted_at", "seq"]),
    ):
        where = sa.text(condition)
        op.create_index(name, "briefs", columns, unique=False, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "brief_history",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("brief_seq", _SEQ, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False, comment="who did it, or by which way it came in"),
        sa.Column("what", sa.String(16), nullable=False, comment="outcome, owner, snoozed, reminded"),
        sa.Column("value", sa.Text(), nullable=True, comment="the outcome, the owner, the moment; null: taken back"),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("link", sa.String(64), nullable=True, comment="of a link from chat or mail: its digest, used once"),
        sa.ForeignKeyConstraint(
            ["brief_seq"], ["briefs.seq"], name=op.f("fk_brief_history_brief_seq"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_brief_history")),
        sa.UniqueConstraint("link", name=op.f("uq_brief_history_link")),
    )
    op.create_index("ix_brief_history_brief_seq", "brief_history", ["brief_seq", "seq"], unique=False)
    op.create_table(
        "reminders",
        sa.Column("brief_seq", _SEQ, autoincrement=False, nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False, comment="while it is being sent: when it is tried again"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("told", sa.Text(), nullable=True, comment="the sinks that have it already"),
        sa.ForeignKeyConstraint(["brief_seq"], ["briefs.seq"], name=op.f("fk_reminders_brief_seq"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("brief_seq", name=op.f("pk_reminders")),
    )
    op.create_index("ix_reminders_due_at", "reminders", ["due_at"], unique=False)
    op.create_table(
        "hints",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("event_key", sa.String(80), nullable=False),
        sa.Column("customer_seq", _SEQ, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False, comment="when the event came in"),
        sa.ForeignKeyConstraint(
            ["customer_seq"], ["customers.seq"], name=op.f("fk_hints_customer_seq"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_hints")),
        sa.UniqueConstraint("event_key", name=op.f("uq_hints_event_key")),
    )
    op.create_index("ix_hints_customer_seq", "hints", ["customer_seq", "at"], unique=False)
    op.create_table(
        "outcome_sums",
        sa.Column("seq", _SEQ, autoincrement=True, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False, comment="days since 1970, of the briefs"),
        sa.Column("persona", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("offer", sa.String(40), nullable=False, comment="empty: none found in the brief"),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False, comment="empty: none yet"),
        sa.Column("briefs", sa.Integer(), nullable=False),
        sa.Column("mrr_hundredths", sa.BigInteger(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("contacts", sa.Integer(), nullable=False, comment="briefs whose customer was spoken to"),
        sa.Column("contact_seconds", sa.BigInteger(), nullable=False, comment="from the signal to that, added up"),
        sa.Column("within_hour", sa.Integer(), nullable=False),
        sa.Column("within_day", sa.Integer(), nullable=False),
        sa.Column("within_week", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outcome_sums")),
        sa.UniqueConstraint(
            "day",
            "persona",
            "kind",
            "offer",
            "currency",
            "outcome",
            name=op.f("uq_outcome_sums_day_persona_kind_offer_currency_outcome"),
        ),
    )
    op.create_index("ix_outcome_sums_persona", "outcome_sums", ["persona", "day"], unique=False)
