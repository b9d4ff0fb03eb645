"""Queries on signals that share a brief: who may be joined, who has joined, and what those are told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.tables import Status, signal_history, signals


@dataclass(frozen=True, slots=True)
class Leader:
    """A signal whose brief others of the same customer may share."""

    seq: int
    customer_seq: int
    public_id: str
    kind: str | None
    status: Status
    received_at: datetime


async def leaders_under_way(connection: AsyncConnection, customer_seqs: Collection[int]) -> list[Leader]:
    """Signals of some customers that are waiting for research or being researched, oldest first."""
    columns = (
        signals.c.seq,
        signals.c.customer_seq,
        func.coalesce(signals.c.event_id, signals.c.signal_id),
        signals.c.kind,
        signals.c.status,
        signals.c.received_at,
    )
    # As an expression, so that no database goes by the index on the status, and looks at all that waits.
    status = signals.c.status.concat("")
    rows = await connection.execute(
        select(*columns).where(
            signals.c.customer_seq.in_(customer_seqs), status.in_([Status.WAITING.value, Status.RESEARCHING.value])
        )
    )
    found = [Leader(*row[:4], Status(row[4]), row[5]) for row in rows]
    return sorted(found, key=lambda leader: leader.seq)


async def kinds_told(connection: AsyncConnection, leader_seqs: Collection[int]) -> dict[int, set[str]]:
    """The kinds of event that the prompts of signals being researched name beside their own.

    Those of who had joined by then: the stories tell the order, whatever the clock did.
    """
    kinds: dict[int, set[str]] = {seq: set() for seq in leader_seqs}
    last = func.max(signal_history.c.seq)
    claimed = (
        select(signal_history.c.signal_seq, last.label("line"))
        .where(signal_history.c.signal_seq.in_(leader_seqs), signal_history.c.status == Status.RESEARCHING)
        .group_by(signal_history.c.signal_seq)
        .subquery()
    )
    joined = (
        select(last)
        .where(signal_history.c.signal_seq == signals.c.seq, signal_history.c.status == Status.JOINED)
        .scalar_subquery()
    )
    rows = await connection.execute(
        select(signals.c.joined_to, signals.c.kind)
        .join(claimed, claimed.c.signal_seq == signals.c.joined_to)
        .where(signals.c.joined_to.in_(leader_seqs), joined < claimed.c.line)
    )
    for leader_seq, kind in rows:
        kinds[leader_seq].add(kind)
    return kinds


async def attach_brief(
    connection: AsyncConnection, leader_seq: int, brief_seq: int, *, reason: str, now: datetime
) -> None:
    """Point a leader, and those that joined it, at the brief that now exists; `reason` is what the joined tell."""
    await connection.execute(update(signals).where(signals.c.seq == leader_seq).values(brief_seq=brief_seq))
    await connection.execute(
        update(signals)
        .where(signals.c.joined_to == leader_seq)
        .values(brief_seq=brief_seq, reason=reason, updated_at=now)
    )


async def tell_joined(connection: AsyncConnection, leader_seq: int, reason: str, now: datetime) -> None:
    """Tell the signals that wait for a leader's brief what has become of it."""
    await connection.execute(
        update(signals)
        .where(signals.c.joined_to == leader_seq, signals.c.brief_seq.is_(None))
        .values(reason=reason, updated_at=now)
    )


async def hand_over(
    connection: AsyncConnection,
    leader_seq: int,
    *,
    joined_to: int | None,
    brief_seq: int | None,
    reason: str,
    now: datetime,
) -> None:
    """Let the signals that wait for a leader's brief share what the leader itself has joined; their stories tell it."""
    waiting = (signals.c.joined_to == leader_seq, signals.c.brief_seq.is_(None))
    seqs: Sequence[int] = (await connection.execute(select(signals.c.seq).where(*waiting))).scalars().all()
    if not seqs:
        return
    await connection.execute(
        update(signals)
        .where(signals.c.seq.in_(seqs))
        .values(joined_to=joined_to, brief_seq=brief_seq, reason=reason, updated_at=now)
    )
    await connection.execute(
        insert(signal_history),
        [{"signal_seq": seq, "at": now, "status": Status.JOINED, "reason": reason, "attempt": 0} for seq in seqs],
    )
