"""Customers as last seen: what research falls back on when the App API is down or the customer is gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, and_, delete, insert, or_, select, union, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.tables import briefs, customers, signals
from churn_radar.triage.customer import CustomerRef, Profile


@dataclass(frozen=True, slots=True)
class KnownCustomer:
    """A customer the record has seen: their row, their profile then, and when that was."""

    seq: int
    profile: Profile
    seen_at: datetime


def _known(row: RowMapping) -> KnownCustomer:
    ref = CustomerRef(row["customer_id"], row["cio_id"], row["email"])
    return KnownCustomer(row["seq"], Profile(ref, row["attributes"]), row["seen_at"])


async def _first(connection: AsyncConnection, condition: ColumnElement[bool]) -> KnownCustomer | None:
    statement = select(customers).where(condition).order_by(customers.c.seen_at.desc()).limit(1)
    row = (await connection.execute(statement)).mappings().first()
    return _known(row) if row else None


async def recall(connection: AsyncConnection, ref: CustomerRef) -> KnownCustomer | None:
    """The customer that a reference names, as last seen.

    The lasting identifiers decide first; a mail address may have changed hands, so it only finds somebody
    whose other identifiers do not contradict the reference.
    """
    if ref.cio_id and (found := await _first(connection, customers.c.cio_id == ref.cio_id)):
        return found
    if ref.id and (found := await _first(connection, customers.c.customer_id == ref.id)):
        return found
    if ref.email and (found := await _first(connection, customers.c.email == ref.email.lower())):
        other = found.profile.ref
        contradicts = (ref.id and other.id and ref.id != other.id) or (
            ref.cio_id and other.cio_id and ref.cio_id != other.cio_id
        )
        return None if contradicts else found
    return None


async def remember(connection: AsyncConnection, profile: Profile, now: datetime) -> int:
    """Keep a profile that was just read live; returns the customer's row number.

    One customer under several names becomes one row as soon as one look-up shows the names together; their
    signals and briefs move to that row.
    """
    ref = profile.ref
    known = await recall(connection, ref)
    values = {
        "customer_id": ref.id or (known.profile.ref.id if known else None),
        "cio_id": ref.cio_id or (known.profile.ref.cio_id if known else None),
        "email": ref.email.lower() if ref.email else (known.profile.ref.email if known else None),
        "attributes": dict(profile.attributes),
        "seen_at": now,
    }
    if known:
        await connection.execute(update(customers).where(customers.c.seq == known.seq).values(**values))
        await _gather(connection, ref, known.seq)
        return known.seq
    inserted = await connection.execute(insert(customers).values(**values).returning(customers.c.seq))
    return int(inserted.scalar_one())


async def _gather(connection: AsyncConnection, ref: CustomerRef, into: int) -> None:
    """Make one row of those that `ref` shows to be one customer.

    A row that knows another lasting identifier is somebody else: somebody who had the id or the address before.
    """
    no_cio_id, no_id = customers.c.cio_id.is_(None), customers.c.customer_id.is_(None)
    same: list[ColumnElement[bool]] = []
    if ref.cio_id:
        same.append(customers.c.cio_id == ref.cio_id)
    if ref.id:
        same.append(and_(customers.c.customer_id == ref.id, no_cio_id))
    if ref.email:
        same.append(and_(customers.c.email == ref.email.lower(), no_cio_id, no_id))
    others = (await connection.execute(select(customers.c.seq).where(or_(*same), customers.c.seq != into))).scalars()
    for other in others.all():
        for table in (signals, briefs):
            moved = update(table).where(table.c.customer_seq == other)
            await connection.execute(moved.values(customer_seq=into))
        await connection.execute(delete(customers).where(customers.c.seq == other))


async def customers_named(connection: AsyncConnection, name: str) -> tuple[int, ...]:
    """The rows that a person may mean by an id, a cio_id or a mail address.

    Also by the id that an event named them by: a customer who was merged goes by another one since.
    """
    known_as = select(customers.c.seq).where(
        or_(
            customers.c.customer_id == name,
            customers.c.cio_id == name,
            customers.c.email == name.lower(),
        )
    )
    named_as = select(signals.c.customer_seq).where(
        or_(signals.c.customer_id == name, signals.c.cio_id == name), signals.c.customer_seq.is_not(None)
    )
    return tuple(sorted(seq for (seq,) in await connection.execute(union(known_as, named_as))))


async def load_customer(connection: AsyncConnection, seq: int) -> KnownCustomer | None:
    """The customer of a row number."""
    return await _first(connection, customers.c.seq == seq)
