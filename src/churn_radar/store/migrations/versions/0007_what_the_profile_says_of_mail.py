"""Whether Customer.io's profile of a customer says that they have unsubscribed: part of what may be sent to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("customers", sa.Column("unsubscribed", sa.Boolean(), nullable=True))
