"""Customers as last seen: what research falls back on when the App API is down or the customer is gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.tables import customers
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

    One customer under several names becomes one row as soon as one look-up shows the names together.
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
        return known.seq
    inserted = await connection.execute(insert(customers).values(**values).returning(customers.c.seq))
    return int(inserted.scalar_one())


async def customers_named(connection: AsyncConnection, name: str) -> tuple[int, ...]:
    """The rows that a person may mean by an id, a cio_id or a mail address."""
    statement = select(customers.c.seq).where(
        or_(
            customers.c.customer_id == name,
            customers.c.cio_id == name,
            customers.c.email == name.lower(),
        )
    )
    return tuple(seq for (seq,) in await connection.execute(statement))


async def load_customer(connection: AsyncConnection, seq: int) -> KnownCustomer | None:
    """The customer of a row number."""
    return await _first(connection, customers.c.seq == seq)
