"""Deliveries: one brief at one sink, each with its own fate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.tables import DeliveryStatus, deliveries


@dataclass(frozen=True, slots=True)
class Delivery:
    """One row of `deliveries`."""

    seq: int
    brief_seq: int
    sink: str
    status: DeliveryStatus
    attempts: int
    due_at: datetime | None
    reason: str | None
    updated_at: datetime


delivery_columns = (
    deliveries.c.seq,
    deliveries.c.brief_seq,
    deliveries.c.sink,
    deliveries.c.status,
    deliveries.c.attempts,
    deliveries.c.due_at,
    deliveries.c.reason,
    deliveries.c.updated_at,
)


def read_delivery(row: Sequence[object]) -> Delivery:
    """A row of `delivery_columns`."""
    seq, brief_seq, sink, status, *rest = row
    return Delivery(seq, brief_seq, sink, DeliveryStatus(str(status)), *rest)  # type: ignore[arg-type]


async def plan_deliveries(
    connection: AsyncConnection, brief_seq: int, sinks: Mapping[str, str | None], now: datetime
) -> list[int]:
    """Owe a brief to each sink, by name, or write down why it is not owed; returns the rows' numbers that are owed."""
    planned = [
        {
            "brief_seq": brief_seq,
            "sink": sink,
            "status": DeliveryStatus.PENDING if reason is None else DeliveryStatus.SKIPPED,
            "attempts": 0,
            "reason": reason,
            "updated_at": now,
        }
        for sink, reason in sinks.items()
    ]
    if not planned:
        return []
    rows = await connection.execute(insert(deliveries).returning(deliveries.c.seq, deliveries.c.status), planned)
    return [seq for seq, status in rows if status == DeliveryStatus.PENDING]


async def load_delivery(connection: AsyncConnection, seq: int) -> Delivery | None:
    """The delivery of a row number."""
    row = (await connection.execute(select(*delivery_columns).where(deliveries.c.seq == seq))).first()
    return read_delivery(row) if row else None


async def settle(
    connection: AsyncConnection,
    seq: int,
    *,
    status: DeliveryStatus,
    now: datetime,
    attempts: int,
    due_at: datetime | None = None,
    reason: str | None = None,
) -> None:
    """Write down what became of an attempt; one that has been delivered meanwhile stays delivered."""
    await connection.execute(
        update(deliveries)
        .where(deliveries.c.seq == seq, deliveries.c.status == DeliveryStatus.PENDING)
        .values(status=status, attempts=attempts, due_at=due_at, reason=reason, updated_at=now)
    )


async def put_off_sink(connection: AsyncConnection, sink: str, *, until: datetime, reason: str) -> None:
    """Let everything that is owed to a sink, and not put off yet, wait until then."""
    await connection.execute(
        update(deliveries)
        .where(deliveries.c.sink == sink, deliveries.c.status == DeliveryStatus.PENDING, deliveries.c.due_at.is_(None))
        .values(due_at=until, reason=reason)
    )


async def fresh_deliveries(connection: AsyncConnection, limit: int) -> list[int]:
    """Deliveries owed, and not put off, oldest first."""
    rows = await connection.execute(
        select(deliveries.c.seq)
        .where(deliveries.c.status == DeliveryStatus.PENDING, deliveries.c.due_at.is_(None))
        .order_by(deliveries.c.seq)
        .limit(limit)
    )
    return [seq for (seq,) in rows]


async def next_delivery_due(connection: AsyncConnection) -> datetime | None:
    """When the first delivery that is put off will be due, or was; None when none is put off."""
    statement = (
        select(deliveries.c.due_at)
        .where(deliveries.c.status == DeliveryStatus.PENDING, deliveries.c.due_at.is_not(None))
        .order_by(deliveries.c.due_at)
        .limit(1)
    )
    return (await connection.execute(statement)).scalar_one_or_none()


async def let_go_due(connection: AsyncConnection, *, now: datetime, limit: int) -> list[int]:
    """Make fresh work of deliveries whose time has come, at most so many; returns their rows' numbers, oldest first."""
    due = (
        select(deliveries.c.seq)
        .where(
            deliveries.c.status == DeliveryStatus.PENDING,
            deliveries.c.due_at.is_not(None),
            deliveries.c.due_at <= now,
        )
        .order_by(deliveries.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = await connection.execute(
        update(deliveries).where(deliveries.c.seq.in_(due)).values(due_at=None).returning(deliveries.c.seq)
    )
    return sorted(rows.scalars())


async def count_owed(connection: AsyncConnection) -> int:
    """How many deliveries are owed."""
    statement = select(func.count()).select_from(deliveries).where(deliveries.c.status == DeliveryStatus.PENDING)
    return int((await connection.execute(statement)).scalar_one())


async def deliveries_of(connection: AsyncConnection, brief_seq: int) -> list[Delivery]:
    """Every delivery of a brief."""
    rows = await connection.execute(
        select(*delivery_columns).where(deliveries.c.brief_seq == brief_seq).order_by(deliveries.c.seq)
    )
    return [read_delivery(row) for row in rows]


async def revive_deliveries(connection: AsyncConnection, brief_seq: int, now: datetime) -> list[int]:
    """Owe a brief again to the sinks that had given up on it; returns the rows' numbers."""
    dead = [each.seq for each in await deliveries_of(connection, brief_seq) if each.status is DeliveryStatus.DEAD]
    return await revive(connection, dead, now)


async def revive(connection: AsyncConnection, seqs: Sequence[int], now: datetime) -> list[int]:
    """Owe dead deliveries again; returns the numbers of those that were still dead."""
    revived = await connection.execute(
        update(deliveries)
        .where(deliveries.c.seq.in_(seqs), deliveries.c.status == DeliveryStatus.DEAD)
        .values(status=DeliveryStatus.PENDING, attempts=0, due_at=None, reason=None, updated_at=now)
        .returning(deliveries.c.seq)
    )
    return sorted(revived.scalars())
