"""Which events the record has of some customers, to tell those that the door has seen from those that it has not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.dialect import is_storable
from churn_radar.store.tables import signals
from churn_radar.triage.customer import CustomerRef
from churn_radar.triage.known import Known


async def known_events(
    connection: AsyncConnection, kind: str, customers: Sequence[CustomerRef]
) -> dict[str, list[Known]]:
    """The events of one kind by each name of these customers, as the events had them; ask for at most a few hundred."""
    named: dict[str, list[Known]] = {}
    names = [
        (column, sorted({name for name in of_kind if name and is_storable(name)}))
        for column, of_kind in (
            (signals.c.customer_id, [each.id for each in customers]),
            (signals.c.cio_id, [each.cio_id for each in customers]),
            (signals.c.email, [each.email for each in customers]),
        )
    ]
    conditions = [column.in_(values) for column, values in names if values]
    if not conditions:
        return named
    found = await connection.execute(
        select(
            signals.c.customer_id,
            signals.c.cio_id,
            signals.c.email,
            signals.c.facts,
            signals.c.occurred_at,
            signals.c.received_at,
        ).where(or_(*conditions), signals.c.kind == kind)
    )
    for customer_id, cio_id, email, facts, occurred_at, received_at in found:
        known = Known(kind, (facts or {}).get("delivery_id"), occurred_at or received_at)
        for name in _names(CustomerRef(customer_id, cio_id, email)):
            named.setdefault(name, []).append(known)
    return named


def known_of(named: dict[str, list[Known]], customer: CustomerRef) -> Iterable[Known]:
    """The events of one of them."""
    for name in _names(customer):
        yield from named.get(name, ())


def _names(customer: CustomerRef) -> Iterable[str]:
    # Under their kind: a customer's id may read like somebody else's address.
    for kind, name in (("id", customer.id), ("cio_id", customer.cio_id), ("email", customer.email)):
        if name:
            yield f"{kind} {name}"
