"""What comes through the door, and the one statement that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import orjson
from sqlalchemy import bindparam, insert

from churn_radar.store.dialect import insert_or_ignore, statement_text
from churn_radar.store.tables import Status, quarantined_bodies, signals, to_micros
from churn_radar.triage.customer import CustomerRef

NOBODY = CustomerRef()


class Verdict(StrEnum):
    """What the door answers for a genuine body."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Arrival:
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
    facts: Mapping[str, Any] = field(default_factory=dict)
    forced: bool = False
    reason: str | None = None
    body: bytes | None = None

    @property
    def public_id(self) -> str:
        """The id to tell the sender: Customer.io's when there is one, else ours."""
        return self.event_id or self.signal_id


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of an arrival: its verdict, and its row when it is new."""

    verdict: Verdict
    public_id: str | None
    seq: int | None = None


_COLUMNS = (
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
_INSERT_SIGNAL = statement_text(
    insert_or_ignore(signals, "event_key").values({column: bindparam(column.name) for column in _COLUMNS})
)
_INSERT_BODY = statement_text(insert(quarantined_bodies))


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


def insert_arrivals(cursor: Cursor, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Insert what is new, inside the caller's transaction; returns one outcome per arrival, in order.

    The unique event key decides: an arrival whose key is already there, from years ago or from earlier in
    this very batch, is a duplicate and changes nothing.

    This is the one query that goes to the driver's cursor itself: it is run for every churn event at the door,
    and SQLAlchemy's own execution costs several times what SQLite takes for the row.
    """
    outcomes: list[Accepted] = []
    for arrival in arrivals:
        cursor.execute(_INSERT_SIGNAL, arrival_row(arrival))
        is_new = cursor.rowcount == 1
        if arrival.body is not None:
            if is_new:
                cursor.execute(_INSERT_BODY, (cursor.lastrowid, arrival.body))
            outcomes.append(Accepted(Verdict.QUARANTINED, arrival.public_id))
        elif is_new:
            outcomes.append(Accepted(Verdict.ACCEPTED, arrival.public_id, cursor.lastrowid))
        else:
            outcomes.append(Accepted(Verdict.DUPLICATE, arrival.public_id))
    return outcomes
