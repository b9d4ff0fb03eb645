"""What the record knows of each sink: what it got last, what waits and what is dead, and whether it is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.deliveries import Delivery, delivery_columns, read_delivery
from churn_radar.store.dialect import insert_if_new
from churn_radar.store.tables import DeliveryStatus, briefs, deliveries, stopped_sinks


@dataclass(frozen=True, slots=True)
class Stopped:
    """Since when nothing goes to a sink, and why."""

    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class SinkState:
    """How one sink stands. `delivered_at` is when the newest brief that it has got was delivered."""

    waiting: int
    dead: int
    delivered_at: datetime | None
    trouble: str | None
    stopped: Stopped | None


@dataclass(frozen=True, slots=True)
class OwedBrief:
    """A delivery with the public id of its brief and whose it is."""

    delivery: Delivery
    brief_id: str
    customer_id: str


async def stopped(connection: AsyncConnection, sink: str) -> Stopped | None:
    """Whether nothing is to be sent to a sink."""
    statement = select(stopped_sinks.c.since, stopped_sinks.c.reason).where(stopped_sinks.c.sink == sink)
    row = (await connection.execute(statement)).first()
    return Stopped(*row) if row else None


async def stop(connection: AsyncConnection, sink: str, *, reason: str, now: datetime) -> None:
    """Send nothing more to a sink; the first reason stays."""
    values = {"sink": sink, "since": now, "reason": reason}
    await connection.execute(insert_if_new(stopped_sinks, connection.dialect), values)


async def resume(connection: AsyncConnection, sink: str) -> bool:
    """Send to a sink again; returns whether it was stopped."""
    gone = await connection.execute(
        delete(stopped_sinks).where(stopped_sinks.c.sink == sink).returning(stopped_sinks.c.sink)
    )
    return gone.first() is not None


async def state_of(connection: AsyncConnection, sink: str) -> SinkState:
    """How one sink stands; of one that was never heard of, that nothing is there."""

    async def count(status: DeliveryStatus) -> int:
        statement = (
            select(func.count()).select_from(deliveries).where(deliveries.c.sink == sink, deliveries.c.status == status)
        )
        return int((await connection.execute(statement)).scalar_one())

    async def newest(status: DeliveryStatus) -> Delivery | None:
        statement = (
            select(*delivery_columns)
            .where(deliveries.c.sink == sink, deliveries.c.status == status)
            .order_by(deliveries.c.seq.desc())
            .limit(1)
        )
        row = (await connection.execute(statement)).first()
        return read_delivery(row) if row else None

    delivered, dead = await newest(DeliveryStatus.DELIVERED), await newest(DeliveryStatus.DEAD)
    waiting = await newest(DeliveryStatus.PENDING)
    return SinkState(
        waiting=await count(DeliveryStatus.PENDING),
        dead=await count(DeliveryStatus.DEAD),
        delivered_at=delivered.updated_at if delivered else None,
        trouble=(waiting.reason if waiting else None) or (dead.reason if dead else None),
        stopped=await stopped(connection, sink),
    )


async def names_in_record(connection: AsyncConnection) -> list[str]:
    """Every sink that a brief was ever owed to, configured or not; one step for each, however many rows it has."""
    found: list[str] = []
    while True:
        statement = select(func.min(deliveries.c.sink)).where(deliveries.c.sink > (found[-1] if found else ""))
        name = (await connection.execute(statement)).scalar_one()
        if name is None:
            return found
        found.append(name)


def _newest(wanted: Select[Any], status: DeliveryStatus, sink: str | None, before: int | None) -> Select[Any]:
    """Of deliveries, those of one status, newest first, optionally of one sink, from before a row number on."""
    wanted = wanted.where(deliveries.c.status == status).order_by(deliveries.c.seq.desc())
    if sink is not None:
        wanted = wanted.where(deliveries.c.sink == sink)
    return wanted if before is None else wanted.where(deliveries.c.seq < before)


async def list_deliveries(
    connection: AsyncConnection,
    *,
    status: DeliveryStatus,
    sink: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[OwedBrief]:
    """Deliveries of one status, newest first, optionally of one sink, from before a row number on."""
    wanted = select(briefs.c.brief_id, briefs.c.customer_id, *delivery_columns).join_from(
        deliveries, briefs, briefs.c.seq == deliveries.c.brief_seq
    )
    statement = _newest(wanted, status, sink, before).limit(limit)
    rows = await connection.execute(statement)
    return [OwedBrief(read_delivery(rest), brief_id, customer_id) for brief_id, customer_id, *rest in rows]


async def dead_numbers(
    connection: AsyncConnection, *, sink: str | None, before: int | None, limit: int
) -> Sequence[int]:
    """Row numbers of dead deliveries, newest first."""
    statement = _newest(select(deliveries.c.seq), DeliveryStatus.DEAD, sink, before).limit(limit)
    found: Sequence[int] = (await connection.execute(statement)).scalars().all()
    return found


async def count_dead(connection: AsyncConnection, *, ids: Sequence[int] | None, sink: str | None) -> int:
    """How many deliveries are dead: among these, of one sink, or all."""
    statement = select(func.count()).select_from(deliveries).where(deliveries.c.status == DeliveryStatus.DEAD)
    if ids is not None:
        statement = statement.where(deliveries.c.seq.in_(ids))
    elif sink is not None:
        statement = statement.where(deliveries.c.sink == sink)
    return int((await connection.execute(statement)).scalar_one())
