"""Queries on quarantined bodies: how much there is, the oldest of them, taking them out and bringing them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.arrivals import Arrival, arrival_values
from churn_radar.store.signals import advance, load_signal
from churn_radar.store.tables import Status, quarantined_bodies, signals

# Where a body may lie whose event this release does not read: skipped are those that were read again in vain.
_UNREAD = (Status.QUARANTINED, Status.SKIPPED)


@dataclass(frozen=True, slots=True)
class KeptBody:
    """A body with what is known of its arrival: enough to take it in again, here or elsewhere."""

    seq: int
    event_key: str
    signal_id: str
    event_id: str | None
    received_at: datetime
    source: str
    reason: str | None
    body: bytes


async def kept_size(connection: AsyncConnection) -> tuple[int, int]:
    """How many bodies are kept, and their bytes together; read from the index of the sizes."""
    row = (await connection.execute(select(func.count(), func.sum(quarantined_bodies.c.size)))).one()
    return int(row[0]), int(row[1] or 0)


async def oldest_bodies(connection: AsyncConnection, limit: int) -> list[tuple[int, int]]:
    """The oldest bodies, as (row of the signal, bytes)."""
    rows = await connection.execute(
        select(quarantined_bodies.c.signal_seq, quarantined_bodies.c.size)
        .order_by(quarantined_bodies.c.signal_seq)
        .limit(limit)
    )
    return [(seq, size or 0) for seq, size in rows]


async def bodies_after(connection: AsyncConnection, seq: int, limit: int) -> list[tuple[int, int]]:
    """The bodies of signals after a row number, oldest first, as (row of the signal, bytes)."""
    rows = await connection.execute(
        select(quarantined_bodies.c.signal_seq, quarantined_bodies.c.size)
        .where(quarantined_bodies.c.signal_seq > seq)
        .order_by(quarantined_bodies.c.signal_seq)
        .limit(limit)
    )
    return [(seq, size or 0) for seq, size in rows]


async def sizes_of(connection: AsyncConnection, seqs: Sequence[int]) -> list[tuple[int, int]]:
    """Which of these signals have a body, as (row of the signal, bytes), oldest first."""
    rows = await connection.execute(
        select(quarantined_bodies.c.signal_seq, quarantined_bodies.c.size)
        .where(quarantined_bodies.c.signal_seq.in_(seqs))
        .order_by(quarantined_bodies.c.signal_seq)
    )
    return [(seq, size or 0) for seq, size in rows]


async def load_bodies(connection: AsyncConnection, seqs: Sequence[int]) -> list[KeptBody]:
    """The bodies of these signals, oldest first."""
    rows = await connection.execute(
        select(
            signals.c.seq,
            signals.c.event_key,
            signals.c.signal_id,
            signals.c.event_id,
            signals.c.received_at,
            signals.c.source,
            signals.c.reason,
            quarantined_bodies.c.body,
        )
        .join(quarantined_bodies, quarantined_bodies.c.signal_seq == signals.c.seq)
        .where(signals.c.seq.in_(seqs))
        .order_by(signals.c.seq)
    )
    return [KeptBody(*row[:-1], body=bytes(row[-1])) for row in rows]


async def forget_body(connection: AsyncConnection, seq: int) -> None:
    """Delete a body that is not needed any more: its event has been understood, or it lies elsewhere."""
    await connection.execute(delete(quarantined_bodies).where(quarantined_bodies.c.signal_seq == seq))


async def take_out(connection: AsyncConnection, seqs: Sequence[int], *, reason: str, now: datetime) -> list[int]:
    """Delete bodies and leave their signals as tombstones, `skipped` with the reason; returns those that were there.

    The event's key stays, so Customer.io's retry of the same event is still known. A signal that was understood
    meanwhile goes its own way.
    """
    gone = []
    for seq, _ in await sizes_of(connection, seqs):
        signal = await load_signal(connection, seq, to_change=True)
        if signal is not None and signal.kind is None:
            await advance(connection, seq, expected=_UNREAD, to=Status.SKIPPED, now=now, reason=reason)
        await forget_body(connection, seq)
        gone.append(seq)
    return gone


async def bring_back(connection: AsyncConnection, arrival: Arrival, now: datetime) -> bool:
    """Quarantine a body that was taken out, of this record or another; False when the record has it, read or not."""
    known = (
        await connection.execute(
            select(signals.c.seq).where(
                or_(signals.c.event_key == arrival.event_key, signals.c.signal_id == arrival.signal_id)
            )
        )
    ).scalar()
    body = {"body": arrival.body, "size": len(arrival.body or b"")}
    if known is None:
        added = insert(signals).values(**arrival_values(arrival)).returning(signals.c.seq)
        seq = (await connection.execute(added)).scalar_one()
        await connection.execute(insert(quarantined_bodies).values(signal_seq=seq, **body))
        return True
    signal = await load_signal(connection, known, to_change=True)
    if signal is None or signal.kind is not None or await sizes_of(connection, [known]):
        return False
    await advance(connection, known, expected=(Status.SKIPPED,), to=Status.QUARANTINED, now=now, reason=arrival.reason)
    await connection.execute(insert(quarantined_bodies).values(signal_seq=known, **body))
    return True
