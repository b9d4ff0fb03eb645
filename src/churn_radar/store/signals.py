"""Queries on signals: where each one stands, and how it got there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, bindparam, false, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.dialect import is_storable
from churn_radar.store.tables import (
    FRESH_WAITING,
    UNFINISHED,
    WAITING,
    Status,
    quarantined_bodies,
    signal_history,
    signals,
)
from churn_radar.triage.customer import CustomerRef


@dataclass(frozen=True, slots=True)
class Signal:
    """One row of the record: an event, and what became of it."""

    seq: int
    signal_id: str
    event_id: str | None
    kind: str | None
    metric: str | None
    object_type: str | None
    customer: CustomerRef
    customer_seq: int | None
    occurred_at: datetime | None
    received_at: datetime
    facts: dict[str, Any]
    source: str
    forced: bool
    status: Status
    reason: str | None
    attempts: int
    due_at: datetime | None
    priority: int
    triage: dict[str, Any] | None
    joined_to: int | None
    brief_seq: int | None
    updated_at: datetime
    failed_service: str | None = None
    failed_status: int | None = None

    @property
    def public_id(self) -> str:
        """The id that people use: Customer.io's when there is one, else ours."""
        return self.event_id or self.signal_id


# The columns that triage moves, and where their values are in a Move.
_MOVED = {"status": "to"} | {
    name: name for name in ("reason", "customer_seq", "priority", "triage", "joined_to", "brief_seq")
}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a signal's story."""

    at: datetime
    status: str
    reason: str | None
    attempt: int


def read_signal_row(row: RowMapping) -> Signal:
    """A signal as the table has it."""
    return Signal(
        seq=row["seq"],
        signal_id=row["signal_id"],
        event_id=row["event_id"],
        kind=row["kind"],
        metric=row["metric"],
        object_type=row["object_type"],
        customer=CustomerRef(row["customer_id"], row["cio_id"], row["email"]),
        customer_seq=row["customer_seq"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        facts=row["facts"] or {},
        source=row["source"],
        forced=row["forced"],
        status=Status(row["status"]),
        reason=row["reason"],
        attempts=row["attempts"],
        due_at=row["due_at"],
        priority=row["priority"],
        triage=row["triage"],
        joined_to=row["joined_to"],
        brief_seq=row["brief_seq"],
        updated_at=row["updated_at"],
        failed_service=row["failed_service"],
        failed_status=row["failed_status"],
    )


async def load_signal(connection: AsyncConnection, seq: int, *, to_change: bool = False) -> Signal | None:
    """The signal of a row number; `to_change` it, nobody else does until this transaction ends."""
    statement = select(signals).where(signals.c.seq == seq)
    if to_change:
        statement = statement.with_for_update(key_share=True)
    row = (await connection.execute(statement)).mappings().first()
    return read_signal_row(row) if row else None


async def load_signals(connection: AsyncConnection, seqs: Sequence[int]) -> list[Signal]:
    """The signals of some row numbers, in the order of their arrival."""
    statement = select(signals).where(signals.c.seq.in_(seqs)).order_by(signals.c.seq)
    return [read_signal_row(row) for row in (await connection.execute(statement)).mappings()]


async def find_signal(connection: AsyncConnection, public_id: str) -> Signal | None:
    """The signal of our id, or the newest that carries Customer.io's id (kinds may share one)."""
    if not is_storable(public_id):
        return None
    ours = (await connection.execute(select(signals).where(signals.c.signal_id == public_id))).mappings().first()
    if ours:
        return read_signal_row(ours)
    newest = select(signals).where(signals.c.event_id == public_id).order_by(signals.c.seq.desc()).limit(1)
    theirs = (await connection.execute(newest)).mappings().first()
    return read_signal_row(theirs) if theirs else None


async def advance(
    connection: AsyncConnection,
    seq: int,
    *,
    expected: Sequence[Status],
    to: Status,
    now: datetime,
    reason: str | None = None,
    attempts: int = 0,
    due_at: datetime | None = None,
    **values: Any,
) -> bool:
    """Move a signal on, if it still stands where the caller believes, and write the move into its story.

    Returns False, and changes nothing, when somebody else has moved it meanwhile: two workers can never both
    carry the same signal through the same step.
    """
    changed = await connection.execute(
        update(signals)
        .where(signals.c.seq == seq, signals.c.status.in_(expected))
        .values(status=to, reason=reason, attempts=attempts, due_at=due_at, updated_at=now, **values)
    )
    if changed.rowcount == 0:
        return False
    await connection.execute(
        insert(signal_history).values(signal_seq=seq, at=now, status=to, reason=reason, attempt=attempts)
    )
    return True


@dataclass(frozen=True, slots=True)
class Move:
    """Where triage moves a signal, and what it has found out."""

    seq: int
    to: Status
    reason: str | None
    customer_seq: int
    priority: int
    triage: dict[str, Any]
    joined_to: int | None
    brief_seq: int | None


async def standing_at(connection: AsyncConnection, seqs: Sequence[int], status: Status) -> dict[int, bool]:
    """Those of some signals that stand at a status, and will for the rest of this transaction.

    With each, whether it is forced: a replay may have asked for that since it was loaded.
    """
    # In one order, so that two who want some of the same never wait for each other; SQLite leaves the lock out.
    rows = await connection.execute(
        select(signals.c.seq, signals.c.forced)
        .where(signals.c.seq.in_(seqs), signals.c.status == status)
        .order_by(signals.c.seq)
        .with_for_update(key_share=True)
    )
    return {row.seq: row.forced for row in rows}


async def advance_all(connection: AsyncConnection, moves: Sequence[Move], now: datetime) -> None:
    """As `advance`, for many in two statements; the caller has made sure in this transaction where they stand."""
    if not moves:
        return
    moved: dict[str, Any] = {
        **{name: bindparam(f"to_{name}") for name in _MOVED},
        "attempts": 0,
        "due_at": None,
        "updated_at": now,
    }
    await connection.execute(
        update(signals).where(signals.c.seq == bindparam("at_seq")).values(moved),
        [
            {"at_seq": move.seq, **{f"to_{name}": getattr(move, field) for name, field in _MOVED.items()}}
            for move in moves
        ],
    )
    await connection.execute(
        insert(signal_history),
        [{"signal_seq": m.seq, "at": now, "status": m.to, "reason": m.reason, "attempt": 0} for m in moves],
    )


async def history(connection: AsyncConnection, signal: Signal) -> list[Step]:
    """The story of a signal, oldest first, from its arrival on."""
    rows = await connection.execute(
        select(signal_history.c.at, signal_history.c.status, signal_history.c.reason, signal_history.c.attempt)
        .where(signal_history.c.signal_seq == signal.seq)
        .order_by(signal_history.c.seq)
    )
    steps = [Step(*row) for row in rows]
    # The door writes one row, not two: arrival is told by the signal itself.
    first = Status.RECEIVED if signal.kind is not None else Status.QUARANTINED
    return [Step(signal.received_at, first, None, 0), *steps]


async def last_line(connection: AsyncConnection, seq: int) -> int:
    """The row number of the newest line of a signal's story: while it is the same, nobody has moved the signal."""
    newest = select(func.max(signal_history.c.seq)).where(signal_history.c.signal_seq == seq)
    return (await connection.execute(newest)).scalar_one() or 0


async def fresh_received(connection: AsyncConnection, limit: int) -> list[int]:
    """Signals to be triaged, and not put off, oldest first."""
    rows = await connection.execute(
        select(signals.c.seq)
        .where(signals.c.status == Status.RECEIVED, signals.c.due_at.is_(None))
        .order_by(signals.c.seq)
        .limit(limit)
    )
    return [seq for (seq,) in rows]


def research_order() -> tuple[ColumnElement[Any], ...]:
    """Dearest first, and of the equally dear the one that came first."""
    return signals.c.priority.desc(), signals.c.seq


async def fresh_waiting(connection: AsyncConnection, limit: int) -> list[tuple[int, int]]:
    """Signals to be researched, and not put off, as (seq, priority), in the order of the research."""
    rows = await connection.execute(
        select(signals.c.seq, signals.c.priority).where(text(FRESH_WAITING)).order_by(*research_order()).limit(limit)
    )
    return [(seq, priority) for seq, priority in rows]


async def count_unfinished(connection: AsyncConnection) -> int:
    """How many signals still need work."""
    statement = select(func.count()).select_from(signals).where(signals.c.status.in_(UNFINISHED))
    return int((await connection.execute(statement)).scalar_one())


async def list_signals(
    connection: AsyncConnection, *, status: Status | None, after: int | None, limit: int
) -> list[Signal]:
    """Signals newest first, optionally of one status; continues after a row number.

    Those that wait for research come in the order of the research.
    """
    statement = select(signals).limit(limit)
    if status is Status.WAITING:
        statement = statement.where(text(WAITING)).order_by(*research_order())
        if after is not None:
            place = (await connection.execute(select(signals.c.priority).where(signals.c.seq == after))).scalar()
            # The first condition is in the second; said by itself, it is where the index is entered.
            statement = statement.where(
                signals.c.priority <= place, or_(signals.c.priority < place, signals.c.seq > after)
            )
    else:
        statement = statement.order_by(signals.c.seq.desc())
        if status is not None:
            statement = statement.where(signals.c.status == status)
        if after is not None:
            statement = statement.where(signals.c.seq < after)
    return [read_signal_row(row) for row in (await connection.execute(statement)).mappings()]


async def signals_with_status(connection: AsyncConnection, status: Status, *, after: int, limit: int) -> list[Signal]:
    """Signals of one status, oldest first, for replays of many."""
    statement = (
        select(signals).where(signals.c.status == status, signals.c.seq > after).order_by(signals.c.seq).limit(limit)
    )
    return [read_signal_row(row) for row in (await connection.execute(statement)).mappings()]


async def joined_signals(connection: AsyncConnection, leader_seq: int) -> list[Signal]:
    """The signals that share, or wait to share, the brief of `leader_seq`, oldest first."""
    statement = select(signals).where(signals.c.joined_to == leader_seq).order_by(signals.c.seq)
    return [read_signal_row(row) for row in (await connection.execute(statement)).mappings()]


async def signals_of_brief(connection: AsyncConnection, brief_seq: int, *, limit: int) -> list[Signal]:
    """The signals that share a brief, oldest first, at most so many."""
    sharing = await connection.execute(select(signals.c.seq).where(signals.c.brief_seq == brief_seq))
    return await load_signals(connection, sorted(sharing.scalars())[:limit])


async def pending_count(connection: AsyncConnection, names: CustomerNames) -> int:
    """How many of a customer's signals are still under way."""
    # Counted among the customer's signals: as a condition, the status would make SQLite look at all that is unfinished.
    unfinished = func.count().filter(signals.c.status.in_(UNFINISHED))
    statement = select(unfinished).select_from(signals).where(names.matches())
    return int((await connection.execute(statement)).scalar_one())


async def any_signal(connection: AsyncConnection, names: CustomerNames) -> bool:
    """Whether the record holds any signal of the customer."""
    return (await connection.execute(select(signals.c.seq).where(names.matches()).limit(1))).first() is not None


@dataclass(frozen=True, slots=True)
class CustomerNames:
    """A customer as somebody asks for them: the text they typed, and the rows it is known to mean."""

    asked: str
    customer_seqs: tuple[int, ...]

    def matches(self) -> ColumnElement[bool]:
        """True for the customer's signals, looked up or not."""
        if not is_storable(self.asked):
            return false()
        return or_(
            signals.c.customer_seq.in_(self.customer_seqs),
            signals.c.customer_id == self.asked,
            signals.c.cio_id == self.asked,
            signals.c.email == self.asked.lower(),
        )


async def quarantined_body(connection: AsyncConnection, seq: int) -> bytes | None:
    """The raw bytes of a quarantined arrival."""
    row = (
        await connection.execute(select(quarantined_bodies.c.body).where(quarantined_bodies.c.signal_seq == seq))
    ).first()
    return bytes(row[0]) if row else None
