"""Queries on signals that wait for the end of a trouble: let them go as soon as it has ended."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.dialect import Held, hold, hold_together
from churn_radar.store.due import Place, page_put_off
from churn_radar.store.tables import Status, signals


async def putting_off(connection: AsyncConnection) -> None:
    """Call this first when a signal may be put off because of a trouble, then look whether the trouble still stands.

    The sweep that follows its end either waits for this transaction, or began before: then the trouble is over here.
    """
    await hold_together(connection, Held.WAITING)


async def let_go(
    connection: AsyncConnection,
    status: Status,
    *,
    reason_prefix: str,
    after: Place | None,
    limit: int,
    now: datetime,
    most: int | None = None,
) -> tuple[list[tuple[int, int]], Place | None]:
    """Make a page of what was put off for such a reason due at once, or `most` of it.

    Looks at `limit` signals of the status that were put off for whatever reason, from `after` on, so that a page
    costs the same however few of them it lets go. Returns those let go, as (seq, priority), and where to go on; None at
    the end. Waits for whoever is just putting something off (see `putting_off`).
    """
    await hold(connection, Held.WAITING)
    page, further = await page_put_off(connection, status, after=after, limit=limit)
    held = [(each.seq, each.priority) for each in page if (each.reason or "").startswith(reason_prefix)]
    held = held[:most]
    if held:
        await connection.execute(
            update(signals)
            .where(
                signals.c.seq.in_([seq for seq, _ in held]),
                signals.c.status == status,
                signals.c.reason.startswith(reason_prefix),
            )
            .values(due_at=None, reason=None, updated_at=now)
        )
    return held, further
