"""What comes through the door, and the one statement that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.dialect import insert_or_ignore
from churn_radar.store.tables import Status, quarantined_bodies, signals
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


def arrival_values(arrival: Arrival) -> dict[str, Any]:
    """The `signals` row of an arrival."""
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
        "attempts": 0,
        "priority": 0,
        "updated_at": arrival.received_at,
    }


async def insert_arrivals(connection: AsyncConnection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Insert what is new, in one statement; returns one outcome per arrival, in order.

    The unique event key decides: an arrival whose key is already there, from years ago or from earlier in
    this very batch, is a duplicate and changes nothing.
    """
    statement = insert_or_ignore(connection, signals, "event_key").returning(signals.c.event_key, signals.c.seq)
    inserted = await connection.execute(statement, [arrival_values(arrival) for arrival in arrivals])
    new: dict[str, int] = {row.event_key: row.seq for row in inserted}
    outcomes: list[Accepted] = []
    bodies: list[dict[str, Any]] = []
    for arrival in arrivals:
        seq = new.pop(arrival.event_key, None)
        if arrival.body is not None:
            if seq is not None:
                bodies.append({"signal_seq": seq, "body": arrival.body})
            outcomes.append(Accepted(Verdict.QUARANTINED, arrival.public_id))
        elif seq is None:
            outcomes.append(Accepted(Verdict.DUPLICATE, arrival.public_id))
        else:
            outcomes.append(Accepted(Verdict.ACCEPTED, arrival.public_id, seq))
    if bodies:
        await connection.execute(insert(quarantined_bodies), bodies)
    return outcomes
