"""Removes what is older than it may be, a page at a time; what is unfinished or in somebody's hands stays.

Each function looks at one page of rows in the order of their numbers, which is that of their arrival, and returns how
many it removed and where to go on, None at the end: at the first row that is too young.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.outcome.rules import CLOSING
from churn_radar.store.at_risk import take_off
from churn_radar.store.tables import UNFINISHED, Status, audit, briefs, customers, signals

# Signals at their end; a quarantined one waits for a release that understands it.
FINISHED = (Status.SKIPPED, Status.DEAD, Status.BRIEFED, Status.JOINED)

Page = tuple[int, int | None]


async def remove_briefs(connection: AsyncConnection, *, before: datetime, after: int, limit: int) -> Page:
    """Briefs from before a moment, with their signals.

    Those stay that somebody has taken up and not brought to an end, that are put aside, or that a younger or unfinished
    signal shares.
    """
    columns = ("seq", "created_at", "outcome", "owner", "snoozed_until", "reminded_at")
    rows = await connection.execute(
        select(*(briefs.c[name] for name in columns))
        .where(briefs.c.seq > after)
        .order_by(briefs.c.seq)
        .limit(limit)
        # Nobody takes one up between this look and its end.
        .with_for_update()
    )
    page = rows.all()
    old = [row for row in page if row.created_at < before]
    done = [
        row.seq
        for row in old
        if row.snoozed_until is None
        and row.reminded_at is None
        and (row.outcome in CLOSING or (row.owner is None and row.outcome is None))
    ]
    if done:
        shared = await connection.execute(
            select(signals.c.brief_seq, signals.c.status, signals.c.updated_at).where(signals.c.brief_seq.in_(done))
        )
        still = {seq for seq, status, at in shared if status in UNFINISHED or at >= before}
        done = [seq for seq in done if seq not in still]
    if done:
        theirs = set((await connection.execute(select(signals.c.seq).where(signals.c.brief_seq.in_(done)))).scalars())
        theirs |= set((await connection.execute(select(briefs.c.signal_seq).where(briefs.c.seq.in_(done)))).scalars())
        await take_off(connection, done)
        await connection.execute(delete(briefs).where(briefs.c.seq.in_(done)))
        await _remove(connection, theirs, done)
    further = page[-1].seq if len(page) == limit and len(old) == len(page) else None
    return len(done), further


async def _remove(connection: AsyncConnection, seqs: Collection[int], of_briefs: Collection[int]) -> int:
    """Delete signals that no brief needs any more, and that no longer point to one that is there."""
    needed = set((await connection.execute(select(briefs.c.signal_seq).where(briefs.c.signal_seq.in_(seqs)))).scalars())
    pointing = await connection.execute(
        select(signals.c.seq, signals.c.brief_seq).where(signals.c.seq.in_(seqs), signals.c.brief_seq.is_not(None))
    )
    needed |= {seq for seq, brief_seq in pointing if brief_seq not in of_briefs}
    gone = [seq for seq in seqs if seq not in needed]
    await connection.execute(update(signals).where(signals.c.joined_to.in_(gone)).values(joined_to=None))
    await connection.execute(delete(signals).where(signals.c.seq.in_(gone)))
    return len(gone)


async def remove_signals(
    connection: AsyncConnection, status: Status, *, before: datetime, after: int, limit: int
) -> Page:
    """Signals that stand at an end without a brief, and were last touched before a moment."""
    rows = await connection.execute(
        select(signals.c.seq, signals.c.received_at, signals.c.updated_at, signals.c.brief_seq)
        .where(signals.c.status == status, signals.c.seq > after)
        .order_by(signals.c.seq)
        .limit(limit)
        # Nobody replays one between this look and its end.
        .with_for_update()
    )
    page = rows.all()
    old = [row for row in page if row.received_at < before]
    done = [row.seq for row in old if row.updated_at < before and row.brief_seq is None]
    removed = await _remove(connection, done, ()) if done else 0
    return removed, page[-1].seq if len(page) == limit and len(old) == len(page) else None


async def remove_changes(connection: AsyncConnection, *, before: datetime, after: int, limit: int) -> Page:
    """Lines of the audit trail from before a moment."""
    rows = await connection.execute(
        select(audit.c.seq, audit.c.at).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
    )
    page = rows.all()
    old = [row.seq for row in page if row.at < before]
    if old:
        await connection.execute(delete(audit).where(audit.c.seq.in_(old)))
    return len(old), page[-1].seq if len(page) == limit and len(old) == len(page) else None


async def remove_customers(connection: AsyncConnection, *, before: datetime, after: int, limit: int) -> Page:
    """Profiles last seen before a moment, of customers of whom nothing else is left."""
    rows = await connection.execute(
        select(customers.c.seq, customers.c.seen_at)
        .where(customers.c.seq > after)
        .order_by(customers.c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    page = rows.all()
    old = [row.seq for row in page if row.seen_at < before]
    gone = 0
    if old:
        left = await connection.execute(
            delete(customers).where(
                customers.c.seq.in_(old),
                ~exists().where(signals.c.customer_seq == customers.c.seq),
                ~exists().where(briefs.c.customer_seq == customers.c.seq),
            )
        )
        gone = left.rowcount
    return gone, page[-1].seq if len(page) == limit else None
