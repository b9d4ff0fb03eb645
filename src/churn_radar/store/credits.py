"""The ledger: what Mave has cost, entry by entry, so that a month's sum holds through crashes and for every replica.

An entry is opened as `under_way`, with an estimate, in the transaction that takes a signal for research, and closed
with what its attempt has cost in the one that keeps the brief. A crash in between leaves the estimate standing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import and_, case, delete, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.research.budget import (
    LONGEST_CALL,
    UNTOLD_CREDITS,
    WAITS_FOR_BUDGET,
    Charge,
    CreditsFor,
    Month,
    Spent,
)
from churn_radar.store.due import Place, page_put_off
from churn_radar.store.tables import WAITING, Status, credits, signal_history, signals

REPLAYED = "replayed"
_IN_THE_LINE = (Status.WAITING, Status.RESEARCHING)


@dataclass(frozen=True, slots=True)
class Entry:
    """An open entry of the ledger: its row, and what its charges will be noted under."""

    seq: int
    signal_seq: int
    spent_at: datetime
    reused_brief_id: str | None = None


@dataclass(frozen=True, slots=True)
class Waiter:
    """A signal that waits for the budget, its place in the line, and the MRR that triage found (0 when unreadable)."""

    seq: int
    priority: int
    mrr: Decimal


async def open_entry(
    connection: AsyncConnection, signal_seq: int, *, now: datetime, reused_brief_id: str | None = None
) -> Entry:
    """Note that a call for a signal is about to be made; with `reused_brief_id`, in the thread of that brief."""
    row = await connection.execute(
        insert(credits)
        .values(
            spent_at=now,
            amount=UNTOLD_CREDITS,
            purpose=CreditsFor.UNDER_WAY,
            signal_seq=signal_seq,
            reused_brief_id=reused_brief_id,
        )
        .returning(credits.c.seq)
    )
    return Entry(int(row.scalar_one()), signal_seq, now, reused_brief_id)


async def close_entry(
    connection: AsyncConnection, entry: Entry, charges: Sequence[Charge], *, brief_seq: int | None = None
) -> None:
    """Put what an attempt has cost in the place of its open entry: nothing, or one entry for each charge.

    Closing it twice does what closing it once does.
    """
    # Of its purpose too: its row number may have been given to what it was closed with.
    still_open = (credits.c.seq == entry.seq, credits.c.purpose == CreditsFor.UNDER_WAY)
    closed = await connection.execute(delete(credits).where(*still_open))
    if closed.rowcount == 0:
        return
    for charge in charges:
        of_brief = charge.purpose is CreditsFor.BRIEF
        await connection.execute(
            insert(credits).values(
                spent_at=entry.spent_at,
                amount=charge.credits,
                purpose=charge.purpose,
                # None for a signal that was erased while Mave was at work on it: what it cost stays.
                signal_seq=select(signals.c.seq).where(signals.c.seq == entry.signal_seq).scalar_subquery(),
                brief_seq=brief_seq if of_brief else None,
                reused_brief_id=entry.reused_brief_id if of_brief else None,
            )
        )


async def spent_in(connection: AsyncConnection, month: Month, *, now: datetime) -> Spent:
    """The sums of a month.

    An entry that has been open for longer than any call takes was left behind by a crash: its estimate counts as spent.
    """
    open_since = now - LONGEST_CALL
    under_way = and_(credits.c.purpose == CreditsFor.UNDER_WAY, credits.c.spent_at > open_since)
    estimated = or_(
        credits.c.purpose == CreditsFor.UNANSWERED,
        and_(credits.c.purpose == CreditsFor.UNDER_WAY, credits.c.spent_at <= open_since),
    )

    row = (
        await connection.execute(
            select(
                func.sum(case((under_way, 0), else_=credits.c.amount)),
                func.sum(case((estimated, credits.c.amount), else_=0)),
                func.sum(case((under_way, credits.c.amount), else_=0)),
            ).where(credits.c.spent_at >= month.start, credits.c.spent_at < month.end)
        )
    ).one()
    return Spent(*(int(total or 0) for total in row))


async def operator_decided(connection: AsyncConnection, signal_seq: int) -> bool:
    """Whether somebody replayed a signal while it was waiting for the budget: they have decided to spend on it.

    Told by the signal's story, so that it holds through retries and restarts; until the signal leaves the line, with a
    brief or as a dead letter, or is put off for the budget once more. Whoever replays it later, with other dead letters
    perhaps, has decided nothing about the budget.
    """
    told = await connection.execute(
        select(signal_history.c.status, signal_history.c.reason)
        .where(signal_history.c.signal_seq == signal_seq)
        .order_by(signal_history.c.seq)
    )
    decided = waited = False
    for status, reason in told:
        if status not in _IN_THE_LINE:
            decided = False
        elif waited:
            decided = reason == REPLAYED
        waited = (reason or "").startswith(WAITS_FOR_BUDGET)
    return decided


async def waiting_for_budget(
    connection: AsyncConnection, *, after: Place | None, limit: int
) -> tuple[list[Waiter], Place | None]:
    """A page of the signals that wait for the budget.

    Looks at `limit` signals that were put off for whatever reason, from `after` on; returns where to go on, None at the
    end.
    """
    page, further = await page_put_off(connection, Status.WAITING, after=after, limit=limit)
    waiting = [each.seq for each in page if (each.reason or "").startswith(WAITS_FOR_BUDGET)]
    found = await connection.execute(
        select(signals.c.seq, signals.c.priority, signals.c.triage).where(signals.c.seq.in_(waiting))
    )
    return [Waiter(seq, priority, _mrr(triage)) for seq, priority, triage in found], further


async def let_go(connection: AsyncConnection, seqs: Sequence[int], *, now: datetime) -> None:
    """Make signals that wait for the budget due at once, those that still do."""
    await connection.execute(
        update(signals)
        .where(signals.c.seq.in_(seqs), text(WAITING), signals.c.reason.startswith(WAITS_FOR_BUDGET))
        .values(due_at=None, reason=None, updated_at=now)
    )


def _mrr(triage: object) -> Decimal:
    match triage:
        case {"account": {"mrr": str(mrr)}}:
            return Decimal(mrr)
        case _:
            return Decimal(0)
