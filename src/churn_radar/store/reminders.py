"""Queries on reminders: which are due, and who has been told of each. One replica at a time has one in hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.tables import reminders


@dataclass(frozen=True, slots=True)
class Reminder:
    """A reminder in hand, until `held_until`; `told` are the sinks that have it already."""

    brief_seq: int
    held_until: datetime
    attempts: int
    told: tuple[str, ...]


async def take_due(connection: AsyncConnection, *, now: datetime, hold: timedelta) -> Reminder | None:
    """The reminder that has been due for longest, taken in hand for as long as `hold`; None when none is due.

    Should this process die with it, somebody takes it up after that.
    """
    due = (
        select(reminders.c.brief_seq, reminders.c.attempts, reminders.c.told)
        .where(reminders.c.due_at <= now)
        .order_by(reminders.c.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = (await connection.execute(due)).first()
    if row is None:
        return None
    taken = Reminder(row.brief_seq, now + hold, row.attempts + 1, tuple(row.told or ()))
    await connection.execute(
        update(reminders)
        .where(reminders.c.brief_seq == taken.brief_seq)
        .values(due_at=taken.held_until, attempts=taken.attempts)
    )
    return taken


async def note_told(connection: AsyncConnection, reminder: Reminder) -> None:
    """Write down who has been told of a reminder in hand."""
    await connection.execute(_in_hand(update(reminders).values(told=list(reminder.told)), reminder))


async def put_off(connection: AsyncConnection, reminder: Reminder, until: datetime) -> None:
    """Let go of a reminder in hand, to be tried again at a moment."""
    await connection.execute(_in_hand(update(reminders).values(due_at=until), reminder))


async def finish(connection: AsyncConnection, reminder: Reminder) -> None:
    """Be done with a reminder in hand."""
    await connection.execute(_in_hand(delete(reminders), reminder))


def _in_hand(statement: Any, reminder: Reminder) -> Any:
    # One that was put aside anew meanwhile has another due time, and is not touched.
    return statement.where(reminders.c.brief_seq == reminder.brief_seq, reminders.c.due_at == reminder.held_until)
