"""What operators look at: dead letters by what they died of, unfinished work by its age, the heads of bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import case, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.signals import Signal, read_signal_row
from churn_radar.store.tables import DEAD, UNFINISHED, Status, quarantined_bodies, signals

# Counted exactly up to here; beyond it a person only needs to know that there are many.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Cause:
    """What a dead letter died of: the service, None for a fault of ours, and its last answer, None for none."""

    service: str | None
    status: int | None


async def dead_by_cause(connection: AsyncConnection) -> dict[Cause, int]:
    """How many dead letters there are of each cause; read from an index that holds nothing else."""
    service, status = signals.c.failed_service, signals.c.failed_status
    rows = await connection.execute(
        select(service, status, func.count()).where(text(DEAD)).group_by(signals.c.status, service, status)
    )
    return {Cause(name, answer): count for name, answer, count in rows}


async def dead_letters(connection: AsyncConnection, cause: Cause, *, before: int | None, limit: int) -> list[Signal]:
    """The dead letters of one cause, newest first; continues after a row number."""
    statement = (
        select(signals)
        .where(
            text(DEAD),
            signals.c.failed_service.is_not_distinct_from(cause.service),
            signals.c.failed_status.is_not_distinct_from(cause.status),
        )
        .order_by(signals.c.seq.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(signals.c.seq < before)
    return [read_signal_row(row) for row in (await connection.execute(statement)).mappings()]


AGES = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1), timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Depth:
    """How many signals stand at a status: by age up to each of AGES and beyond the last. The oldest first counted."""

    by_age: tuple[int, ...]
    oldest: datetime | None

    @property
    def total(self) -> int:
        """All of them, or MOST_COUNTED when there are more."""
        return sum(self.by_age)


async def depth_by_age(connection: AsyncConnection, now: datetime) -> Mapping[Status, Depth]:
    """How much unfinished work there is, and for how long it has been waiting."""
    return {status: await _depth(connection, status, now) for status in UNFINISHED}


async def _depth(connection: AsyncConnection, status: Status, now: datetime) -> Depth:
    oldest = (
        select(signals.c.received_at)
        .where(signals.c.status == status)
        .order_by(signals.c.seq)
        .limit(MOST_COUNTED)
        .subquery()
    )
    younger = [func.count(case((oldest.c.received_at > now - age, 1))) for age in AGES]
    row = (await connection.execute(select(func.min(oldest.c.received_at), func.count(), *younger))).one()
    first, total, *counts = row
    upto = [0, *counts, total]
    return Depth(tuple(upto[n + 1] - upto[n] for n in range(len(upto) - 1)), first)


async def body_heads(connection: AsyncConnection, seqs: Sequence[int], most_bytes: int) -> dict[int, tuple[int, bytes]]:
    """Of each quarantined body its size in bytes and its first bytes, by the row of its signal."""
    rows = await connection.execute(
        select(
            quarantined_bodies.c.signal_seq,
            quarantined_bodies.c.size,
            func.substr(quarantined_bodies.c.body, 1, most_bytes),
        ).where(quarantined_bodies.c.signal_seq.in_(seqs))
    )
    return {seq: (size or 0, bytes(head)) for seq, size, head in rows}
