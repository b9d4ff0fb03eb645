"""Event keys begin as the event ids do: with the time. Rows that are there keep their public ids.

A replica of the release before that goes on beside this one knows events by the old keys alone, and writes those. What
one of the two has taken, and is sent again to the other, is two signals then, which share a brief within the cool-down.
A hint keeps the key of its event, without the id: sent again after the upgrade it is shown twice.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_BEGINNING = "substr(event_id, 1, 10)"
# Of the letters A to Z alone, whatever a database's own language makes of an I.
_LOWER = {"sqlite": f"lower({_BEGINNING})", "postgresql": f'lower({_BEGINNING} COLLATE "C")'}
_ONLY_LETTERS_AND_DIGITS = {
    "sqlite": f"{_BEGINNING} NOT GLOB '*[^0-9A-Za-z]*'",
    "postgresql": f"{_BEGINNING} COLLATE \"C\" ~ '^[0-9A-Za-z]+$'",
}


def upgrade() -> None:
    # As `churn_radar.intake.events` makes them. Keys of bodies that were not understood are longer. Events that came in
    # forced are known by a salt that nobody sends again, and look like signals that a replay has forced.
    dialect = op.get_bind().dialect.name
    known_by_an_id = f"event_id <> '' AND {_ONLY_LETTERS_AND_DIGITS[dialect]}"
    key = f"substr({_LOWER[dialect]} || event_key, 1, 32)"
    old = f"length(event_key) = 32 AND {known_by_an_id}"
    op.execute(sa.text(f"UPDATE signals SET event_key = {key} WHERE {old}"))  # noqa: S608  no value in it
