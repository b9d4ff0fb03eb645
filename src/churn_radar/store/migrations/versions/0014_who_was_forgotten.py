"""Tombstones of those who were forgotten, and a ledger that signals and briefs can be deleted under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tombstones",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("person", sa.String(32), nullable=False, comment="which marks belong together; says nothing else"),
        sa.Column("kind", sa.String(8), nullable=False, comment="of which kind of identifier: id, cio_id, email"),
        sa.Column("mark", sa.String(40), nullable=False, comment="keyed hash of the identifier"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_tombstones")),
        sa.UniqueConstraint("mark", "person", name=op.f("uq_tombstones_mark_person")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tombstones_person", "tombstones", ["person"], unique=False)
    for column in ("signal_seq", "brief_seq"):
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_credits_{column}", "credits", [column], unique=False, sqlite_where=where, postgresql_where=where
        )
