"""Event keys begin as the event ids do: with the time. Rows that are there keep their public ids."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_BEGINNING = "substr(event_id, 1, 10)"
_KNOWN_BY_AN_ID = "length(event_key) = 32 AND event_id <> ''"
_REKEYED = {
    "sqlite": f"""UPDATE signals SET event_key = substr(lower({_BEGINNING}) || event_key, 1, 32)
        WHERE {_KNOWN_BY_AN_ID} AND {_BEGINNING} NOT GLOB '*[^0-9A-Za-z]*'""",
    # Of the letters A to Z alone, whatever a database's own language makes of an I.
    "postgresql": f"""UPDATE signals SET event_key = substr(lower({_BEGINNING} COLLATE "C") || event_key, 1, 32)
        WHERE {_KNOWN_BY_AN_ID} AND {_BEGINNING} COLLATE "C" ~ '^[0-9A-Za-z]+$'""",
}


def upgrade() -> None:
    # As `churn_radar.intake.events` makes them. Keys of bodies that were not understood are longer. Those of events that
    # came in forced are known by a salt that nobody sends again, and cannot be told from those that a replay has forced.
    op.execute(sa.text(_REKEYED[op.get_bind().dialect.name]))
