"""How fast an upstream is called and whether at all, for several replicas: on Postgres only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    moment = sa.TIMESTAMP(timezone=True)
    op.create_table(
        "upstream_limits",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("held_until", moment, nullable=True, comment="until then nobody calls"),
        sa.Column("kept_to", sa.Integer(), nullable=True, comment="calls a window, where that is below the setting"),
        sa.Column("kept_by", sa.Uuid(), nullable=True, comment="the replica that found it out"),
        sa.Column("kept_until", moment, nullable=True, comment="forgotten then, unless that replica says it again"),
        sa.PrimaryKeyConstraint("service"),
        comment="one row an upstream service; locked while a permit is given",
    )
    op.create_table(
        "upstream_permits",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=False, comment="the replica that calls"),
        sa.Column("granted_at", moment, nullable=False),
        sa.Column("ended_at", moment, nullable=True, comment="when the answer had come"),
        sa.Column("expires_at", moment, nullable=False, comment="a dead replica's call no longer counts as under way"),
        sa.PrimaryKeyConstraint("id"),
        comment="one row a call, kept for as long as it counts",
    )
    op.create_index("ix_upstream_permits_granted_at", "upstream_permits", ["service", "granted_at"])
    op.create_index(
        "ix_upstream_permits_under_way", "upstream_permits", ["service"], postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_table(
        "upstream_troubles",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("since", moment, nullable=False),
        sa.Column("next_probe_at", moment, nullable=False),
        sa.Column("probes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("prober", sa.Uuid(), nullable=True, comment="the replica whose call finds out whether it is mended"),
        sa.Column("asked_at", moment, nullable=True, comment="when somebody last replayed by hand"),
        sa.PrimaryKeyConstraint("service"),
        comment="a row while an upstream refuses to work until a person acts",
    )
