"""Queries on signals that wait for the end of a trouble: let them go as soon as it has ended."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.tables import Status, signals


async def let_go(
    connection: AsyncConnection, status: Status, *, reason_prefix: str, after: int, limit: int, now: datetime
) -> tuple[list[tuple[int, int]], int | None]:
    """Make a page of what was put off for such a reason due at once.

    Looks at `limit` signals of the status that were put off for whatever reason, from row `after` on, so that a page
    costs the same however few of them it lets go. Returns those let go, as (seq, priority), and the row to go on
    after; None at the end.
    """
    page = (
        await connection.execute(
            select(signals.c.seq, signals.c.priority, signals.c.reason)
            .where(signals.c.status == status, signals.c.due_at.is_not(None), signals.c.seq > after)
            .order_by(signals.c.seq)
            .limit(limit)
        )
    ).all()
    held = [(seq, priority) for seq, priority, reason in page if (reason or "").startswith(reason_prefix)]
    if held:
        await connection.execute(
            update(signals)
            .where(signals.c.seq.in_([seq for seq, _ in held]))
            .values(due_at=None, reason=None, updated_at=now)
        )
    return held, page[-1][0] if len(page) == limit else None
