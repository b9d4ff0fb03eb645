"""The audit trail: who asked for which change, on what, when. Only ever added to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.tables import audit


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the trail.

    `via` is page, api, link or command. `subject` names what it was done to by ids of events, signals or briefs;
    neither it nor `detail` may hold secrets, or names, ids and addresses of customers: the trail outlives them.
    """

    at: datetime
    who: str
    via: str
    action: str
    subject: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A line, and where it stands."""

    seq: int
    change: Change


async def write_change(connection: AsyncConnection, change: Change) -> None:
    """Add a line."""
    await connection.execute(
        insert(audit).values(
            at=change.at,
            who=change.who,
            via=change.via,
            action=change.action,
            subject=change.subject,
            detail=change.detail,
        )
    )


async def list_changes(connection: AsyncConnection, *, before: int | None = None, limit: int) -> Sequence[StoredChange]:
    """Lines of the trail, newest first; continues after a row number."""
    statement = (
        select(audit.c.seq, audit.c.at, audit.c.who, audit.c.via, audit.c.action, audit.c.subject, audit.c.detail)
        .order_by(audit.c.seq.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(audit.c.seq < before)
    return [StoredChange(seq, Change(*line)) for seq, *line in await connection.execute(statement)]
