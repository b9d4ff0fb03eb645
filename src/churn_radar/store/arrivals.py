"""What comes through the door, and the one statement that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import orjson
from sqlalchemy import bindparam, insert

from churn_radar.store.dialect import insert_or_ignore, statement_text
from churn_radar.store.tables import Status, quarantined_bodies, signals, to_micros
from churn_radar.triage.customer import CustomerRef

NOBODY = CustomerRef()

# What the door makes for every event is a named tuple: as fixed as a frozen dataclass, and made in a third of the time.


class Verdict(StrEnum):
    """What the door answers for a genuine body."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    QUARANTINED = "quarantined"


class Arrival(NamedTuple):
    """One thing to keep: a churn signal, or (with `body`) a genuine body that was not understood."""

    event_key: str
    signal_id: str
    received_at: datetime
    source: str
    event_id: str | None = None
    kind: str | None = None
    metric: str | None = None
    object_type: str | None = None
    customer: CustomerRef = NOBODY
    occurred_at: datetime | None = None
    facts: Mapping[str, Any] = MappingProxyType({})
    forced: bool = False
    reason: str | None = None
    body: bytes | None = None

    @property
    def public_id(self) -> str:
        """The id to tell the sender: Customer.io's when there is one, else ours."""
        return self.event_id or self.signal_id


class Accepted(NamedTuple):
    """What became of an arrival: its verdict, and its row when it is new."""

    verdict: Verdict
    public_id: str | None
    seq: int | None = None


COLUMNS = (
    signals.c.signal_id,
    signals.c.event_key,
    signals.c.event_id,
    signals.c.kind,
    signals.c.metric,
    signals.c.object_type,
    signals.c.customer_id,
    signals.c.cio_id,
    signals.c.email,
    signals.c.occurred_at,
    signals.c.received_at,
    signals.c.facts,
    signals.c.source,
    signals.c.forced,
    signals.c.status,
    signals.c.reason,
    signals.c.updated_at,
)
_body_columns = (quarantined_bodies.c.signal_seq, quarantined_bodies.c.body, quarantined_bodies.c.size)
_INSERT_BODY = statement_text(insert(quarantined_bodies).values({c: bindparam(c.name) for c in _body_columns}))
_HAS_KEY = f"SELECT 1 FROM {signals.name} WHERE event_key = ?"  # noqa: S608  no value in it
_NEWEST = f"SELECT seq, event_key FROM {signals.name} ORDER BY seq DESC LIMIT ?"  # noqa: S608  no value in it
# Each number of rows up to this one has a statement of its own, which the driver keeps prepared: 544 values at most,
# where the oldest SQLite takes 999.
MOST_ROWS = 32


_ROW = f"({', '.join('?' * len(COLUMNS))})"
_BEFORE_ROWS, _AFTER_ROWS = statement_text(
    insert_or_ignore(signals).values({column: bindparam(column.name) for column in COLUMNS})
).split(_ROW)


@cache
def _insert_signals(rows: int) -> str:
    return f"{_BEFORE_ROWS}{', '.join([_ROW] * rows)}{_AFTER_ROWS}"


class Cursor(Protocol):
    """What is needed of a driver's cursor."""

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""

    @property
    def lastrowid(self) -> int | None:
        """Number of the row that was inserted last."""

    def execute(self, statement: str, parameters: Any, /) -> Any:
        """Run one statement."""

    def fetchall(self) -> list[Any]:
        """The rows of the last statement."""


def arrival_values(arrival: Arrival) -> dict[str, Any]:
    """The `signals` row of an arrival, as SQLAlchemy takes it."""
    return {
        "signal_id": arrival.signal_id,
        "event_key": arrival.event_key,
        "event_id": arrival.event_id,
        "kind": arrival.kind,
        "metric": arrival.metric,
        "object_type": arrival.object_type,
        "customer_id": arrival.customer.id,
        "cio_id": arrival.customer.cio_id,
        "email": arrival.customer.email.lower() if arrival.customer.email else None,
        "occurred_at": arrival.occurred_at,
        "received_at": arrival.received_at,
        "facts": dict(arrival.facts) or None,
        "source": arrival.source,
        "forced": arrival.forced,
        "status": Status.RECEIVED if arrival.body is None else Status.QUARANTINED,
        "reason": arrival.reason,
        "updated_at": arrival.received_at,
    }


def arrival_row(arrival: Arrival) -> tuple[Any, ...]:
    """The values of an arrival's `signals` row, as the driver stores them, in the order of the statement."""
    customer = arrival.customer
    received = to_micros(arrival.received_at)
    return (
        arrival.signal_id,
        arrival.event_key,
        arrival.event_id,
        arrival.kind,
        arrival.metric,
        arrival.object_type,
        customer.id,
        customer.cio_id,
        customer.email.lower() if customer.email else None,
        to_micros(arrival.occurred_at) if arrival.occurred_at else None,
        received,
        orjson.dumps(arrival.facts).decode() if arrival.facts else None,
        arrival.source,
        arrival.forced,
        "received" if arrival.body is None else "quarantined",
        arrival.reason,
        received,
    )


def outcome(arrival: Arrival, seq: int | None, *, has_key: bool) -> Accepted:
    """What became of an arrival, whose row is `seq` when it is new.

    `has_key` tells of a body whether the record knows it by its key; where it does not, its id is that of a signal by
    now.
    """
    if arrival.body is not None:
        return Accepted(Verdict.QUARANTINED if has_key else Verdict.DUPLICATE, arrival.public_id)
    return Accepted(Verdict.DUPLICATE if seq is None else Verdict.ACCEPTED, arrival.public_id, seq)


def insert_arrivals(cursor: Cursor, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Insert what is new, inside the caller's transaction; returns one outcome per arrival, in order.

    The unique event key decides: an arrival whose key is already there, from years ago or from earlier in
    this very batch, is a duplicate and changes nothing. So does our own id: a body that a newer release has read
    keeps its id under the key of the event, and an older one, put back in its place, still makes it of the body.

    This is the one query that goes to the driver's cursor itself: it is run for every churn event at the door,
    and SQLAlchemy's own execution costs several times what SQLite takes for the row. Many rows go in one statement
    because the driver lets go of the interpreter for each, and gets it back only when the event loop pauses.
    """
    outcomes: list[Accepted] = []
    for start in range(0, len(arrivals), MOST_ROWS):
        outcomes += _insert_some(cursor, arrivals[start : start + MOST_ROWS])
    return outcomes


def _insert_some(cursor: Cursor, arrivals: Sequence[Arrival]) -> list[Accepted]:
    values = [value for arrival in arrivals for value in arrival_row(arrival)]
    cursor.execute(_insert_signals(len(arrivals)), values)
    new = _row_numbers(cursor, arrivals)
    return [_outcome(cursor, arrival, new.pop(arrival.event_key, None)) for arrival in arrivals]


def _row_numbers(cursor: Cursor, arrivals: Sequence[Arrival]) -> dict[str, int]:
    """The rows that the last statement made, by event key: the newest there are, since row numbers only grow."""
    last, count = cursor.lastrowid, cursor.rowcount
    if count == len(arrivals) and last is not None:
        return {arrival.event_key: last - count + 1 + place for place, arrival in enumerate(arrivals)}
    if not count:
        return {}
    cursor.execute(_NEWEST, (count,))
    return {event_key: seq for seq, event_key in cursor.fetchall()}


def _outcome(cursor: Cursor, arrival: Arrival, seq: int | None) -> Accepted:
    if arrival.body is not None and seq is not None:
        cursor.execute(_INSERT_BODY, (seq, arrival.body, len(arrival.body)))
    has_key = seq is not None or arrival.body is None or _has_key(cursor, arrival.event_key)
    return outcome(arrival, seq, has_key=has_key)


def _has_key(cursor: Cursor, event_key: str) -> bool:
    cursor.execute(_HAS_KEY, (event_key,))
    return bool(cursor.fetchall())
