"""As `insert_arrivals`, on Postgres: one statement for a batch of any size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from churn_radar.store.arrivals import COLUMNS, Accepted, Arrival, arrival_row, outcome
from churn_radar.store.tables import Status, quarantined_bodies, signals

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.prepared_stmt import PreparedStatement

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
    RETURNING seq, event_key, status = '{Status.RECEIVED.value}' AS is_signal
"""  # noqa: S608  no value in it
_HAVE_KEYS = f"SELECT event_key FROM {signals.name} WHERE event_key = ANY($1::text[])"  # noqa: S608  no value in it
_INSERT_BODY = f"INSERT INTO {quarantined_bodies.name} (signal_seq, body, size) VALUES ($1, $2, $3)"  # noqa: S608


def insert_text(jobs_of_new: str | None = None) -> str:
    """The statement that stores a batch; `jobs_of_new` is what it does with the rows that it `stored`, if anything."""
    jobs = f", jobs AS ({jobs_of_new})" if jobs_of_new else ""
    return f"WITH stored AS ({_INSERT}){jobs} SELECT seq, event_key FROM stored"  # noqa: S608


async def insert_arrivals(
    connection: asyncpg.Connection[Any], statement: PreparedStatement[Any], arrivals: Sequence[Arrival]
) -> list[Accepted]:
    """Insert what is new with a prepared `insert_text`; returns one outcome per arrival, in order.

    The unique event key decides, also between replicas: whoever comes second waits until the first has committed. So
    does our own id (see `churn_radar.store.arrivals`). One statement is a transaction by itself; with bodies among the
    arrivals there are more of them, for a transaction of the caller's (see `has_bodies`).
    """
    inserted = await statement.fetch(*(list(column) for column in zip(*map(arrival_row, arrivals), strict=True)))
    new: dict[str, int] = {event_key: seq for seq, event_key in inserted}
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
        await connection.executemany(_INSERT_BODY, bodies)
    return outcomes


def has_bodies(arrivals: Iterable[Arrival]) -> bool:
    """Whether anything is for the quarantine."""
    return any(arrival.body is not None for arrival in arrivals)


async def _keys_of_bodies(connection: asyncpg.Connection[Any], not_inserted: Sequence[Arrival]) -> set[str]:
    """Those of the bodies that were not inserted whose own key is there."""
    keys = [arrival.event_key for arrival in not_inserted if arrival.body is not None]
    if not keys:
        return set()
    return {row["event_key"] for row in await connection.fetch(_HAVE_KEYS, keys)}
