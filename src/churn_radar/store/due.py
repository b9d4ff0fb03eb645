"""Queries on signals that are put off: until when, which are due, and letting those go.

A signal that is put off has its due time in the record and is held nowhere else. Letting it go means to take that time
away: it is fresh work then, and the next that reads what is fresh finds it in its place.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.tables import Status, signals

Place = tuple[datetime, int]
"""A place among what is put off: a due time, and a row number among those of the same time."""


@dataclass(frozen=True, slots=True)
class Due:
    """A signal that is put off, or whose time has come."""

    seq: int
    priority: int
    reason: str | None


async def next_due(connection: AsyncConnection, status: Status) -> datetime | None:
    """When the first signal of a status that is put off will be due, or was; None when none is put off."""
    statement = (
        select(signals.c.due_at)
        .where(signals.c.status == status, signals.c.due_at.is_not(None))
        .order_by(signals.c.due_at)
        .limit(1)
    )
    return (await connection.execute(statement)).scalar_one_or_none()


async def due_signals(connection: AsyncConnection, status: Status, *, now: datetime, limit: int) -> list[Due]:
    """Signals of a status whose time has come, at most so many, those that have been due for longest.

    They are the caller's until this transaction ends: another replica that asks meanwhile gets others.
    """
    rows = await connection.execute(
        select(signals.c.seq, signals.c.priority, signals.c.reason)
        .where(signals.c.status == status, signals.c.due_at.is_not(None), signals.c.due_at <= now)
        .order_by(signals.c.due_at)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    return [Due(*row) for row in rows]


async def page_put_off(
    connection: AsyncConnection, status: Status, *, after: Place | None, limit: int
) -> tuple[list[Due], Place | None]:
    """Signals of a status that are put off, due or not, by their due times from `after` on.

    Returns where to go on, None at the end. What is put off further meanwhile may come twice.
    """
    put_off = select(signals.c.seq, signals.c.priority, signals.c.reason, signals.c.due_at).where(
        signals.c.status == status, signals.c.due_at.is_not(None)
    )
    if after is not None:
        put_off = put_off.where(tuple_(signals.c.due_at, signals.c.seq) > after)
    page = (await connection.execute(put_off.order_by(signals.c.due_at, signals.c.seq).limit(limit))).all()
    further = (page[-1].due_at, page[-1].seq) if len(page) == limit else None
    return [Due(seq, priority, reason) for seq, priority, reason, _ in page], further


async def let_go(connection: AsyncConnection, seqs: Collection[int]) -> None:
    """Make fresh work of signals that are put off; the caller has made sure in this transaction that they are."""
    if seqs:
        await connection.execute(update(signals).where(signals.c.seq.in_(seqs)).values(due_at=None))


async def put_off(connection: AsyncConnection, seqs: Collection[int], until: datetime, *, reason: str) -> None:
    """Put signals off, or further off, that tell this reason already: their story is none the longer for it."""
    if seqs:
        await connection.execute(
            update(signals).where(signals.c.seq.in_(seqs), signals.c.reason == reason).values(due_at=until)
        )
