"""Who had a mail address last, and who is known by it alone, found among no more rows than that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BY_MAIL_ALONE = sa.text("customer_id IS NULL AND cio_id IS NULL")


def upgrade() -> None:
    op.drop_index("ix_customers_email", table_name="customers")
    op.create_index("ix_customers_email_seen_at", "customers", ["email", "seen_at"], unique=False)
    op.create_index(
        "ix_customers_by_mail_alone",
        "customers",
        ["email", "customer_id", "cio_id"],
        unique=False,
        sqlite_where=_BY_MAIL_ALONE,
        postgresql_where=_BY_MAIL_ALONE,
    )
