"""As `insert_arrivals`, on Postgres: one statement for a batch of any size."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.arrivals import COLUMNS, Accepted, Arrival, arrival_row, outcome
from churn_radar.store.tables import quarantined_bodies, signals

_TYPES = {"BIGINT": "bigint", "BOOLEAN": "boolean"}
_names = ", ".join(column.name for column in COLUMNS)
_arrays = ", ".join(
    f"${place}::{_TYPES.get(str(column.type.compile()), 'text')}[]" for place, column in enumerate(COLUMNS, 1)
)
# The rows are numbered in the order of their arrival, and inserted in that of their keys: two replicas that are sent
# the same events in another order wait for each other's keys, and would do so in a circle.
_INSERT = f"""
INSERT INTO {signals.name} (seq, {_names})
SELECT numbered.seq, {", ".join(f"numbered.{column.name}" for column in COLUMNS)}
FROM (
    SELECT nextval('{signals.name}_seq_seq') AS seq, arrived.*
    FROM unnest({_arrays}) WITH ORDINALITY AS arrived ({_names}, place)
    ORDER BY arrived.place
    OFFSET 0
) AS numbered
ORDER BY numbered.event_key, numbered.place
ON CONFLICT DO NOTHING
RETURNING seq, event_key
"""  # noqa: S608  no value in it
_HAVE_KEYS = f"SELECT event_key FROM {signals.name} WHERE event_key = ANY($1::text[])"  # noqa: S608  no value in it
_INSERT_BODY = f"INSERT INTO {quarantined_bodies.name} (signal_seq, body, size) VALUES ($1, $2, $3)"  # noqa: S608


async def insert_arrivals(connection: AsyncConnection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Insert what is new, inside the caller's transaction; returns one outcome per arrival, in order.

    The unique event key decides, also between replicas: whoever comes second waits until the first has committed. So
    does our own id (see `churn_radar.store.arrivals`).
    """
    columns = tuple(list(column) for column in zip(*map(arrival_row, arrivals), strict=True))
    inserted = await connection.exec_driver_sql(_INSERT, columns)
    new: dict[str, int] = {row.event_key: row.seq for row in inserted}
    outcomes: list[Accepted] = []
    bodies: list[tuple[int, bytes, int]] = []
    there = await _keys_of_bodies(connection, [each for each in arrivals if each.event_key not in new])
    for arrival in arrivals:
        seq = new.pop(arrival.event_key, None)
        if seq is not None and arrival.body is not None:
            bodies.append((seq, arrival.body, len(arrival.body)))
            there.add(arrival.event_key)
        outcomes.append(outcome(arrival, seq, has_key=arrival.event_key in there))
    if bodies:
        await connection.exec_driver_sql(_INSERT_BODY, bodies)
    return outcomes


async def _keys_of_bodies(connection: AsyncConnection, not_inserted: Sequence[Arrival]) -> set[str]:
    """Those of the bodies that were not inserted whose own key is there."""
    keys = [arrival.event_key for arrival in not_inserted if arrival.body is not None]
    if not keys:
        return set()
    return {row.event_key for row in await connection.exec_driver_sql(_HAVE_KEYS, (keys,))}
