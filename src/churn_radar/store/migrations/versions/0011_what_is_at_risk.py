"""Which briefs put MRR at risk, their sums by day, what briefs are looked up by: filled from the briefs there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BY_BYTES = sa.String(length=200).with_variant(sa.String(length=200, collation="C"), "postgresql")

_MICROSECONDS_OF_A_DAY = 86_400_000_000
# The part of a mail address behind its last @, as each database can say it; an address has but one, nearly always.
_HOST = {"sqlite": "substr(email, instr(email, '@') + 1)", "postgresql": "split_part(email, '@', 2)"}


def upgrade() -> None:
    op.create_table(
        "at_risk",
        sa.Column("brief_seq", _SEQ, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["brief_seq"], ["briefs.seq"], name=op.f("fk_at_risk_brief_seq")),
        sa.PrimaryKeyConstraint("brief_seq", name=op.f("pk_at_risk")),
    )
    op.create_table(
        "risk_days",
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("persona_type", sa.Text(), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("briefs", sa.BigInteger(), nullable=False),
        sa.Column("mrr", sa.BigInteger(), nullable=False),
        sa.Column("open_briefs", sa.BigInteger(), nullable=False),
        sa.Column("open_mrr", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("currency", "day", "persona_type", "event_type", name=op.f("pk_risk_days")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "brief_names",
        sa.Column("name", _BY_BYTES, nullable=False),
        sa.Column("brief_seq", _SEQ, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["brief_seq"], ["briefs.seq"], name=op.f("fk_brief_names_brief_seq"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", "brief_seq", name=op.f("pk_brief_names")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_brief_names_brief_seq", "brief_names", ["brief_seq"], unique=False)
    op.create_index(
        "ix_briefs_dearest",
        "briefs",
        ["mrr", "seq", "event_type", "plan", "persona_type", "created_at", "outcome", "owner"],
        unique=False,
    )
    op.execute("INSERT INTO at_risk (brief_seq) SELECT max(seq) FROM briefs GROUP BY customer_seq")
    mrr = "CAST(round(briefs.mrr * 100) AS BIGINT)"
    op.execute(
        "INSERT INTO risk_days (currency, day, persona_type, event_type, briefs, mrr, open_briefs, open_mrr)"  # noqa: S608
        f" SELECT currency, created_at / {_MICROSECONDS_OF_A_DAY}, persona_type, event_type, count(*), sum({mrr}),"
        f" count(brief_seq), sum(CASE WHEN brief_seq IS NULL THEN 0 ELSE {mrr} END)"
        " FROM briefs LEFT JOIN at_risk ON brief_seq = seq GROUP BY 1, 2, 3, 4"
    )
    for name in ("customer_id", "cio_id", "email", _HOST[op.get_bind().dialect.name]):
        op.execute(
            f"INSERT INTO brief_names (name, brief_seq) SELECT substr(lower({name}), 1, 200), seq FROM briefs"  # noqa: S608
            f" WHERE {name} <> '' AND NOT EXISTS (SELECT 1 FROM brief_names AS had"
            f" WHERE had.brief_seq = seq AND had.name = substr(lower({name}), 1, 200))"
        )
