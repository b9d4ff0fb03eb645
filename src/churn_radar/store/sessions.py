"""Sessions that were ended before their time: a signed cookie stays genuine after the log-out."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.dialect import insert_if_new
from churn_radar.store.tables import ended_sessions


async def end_session(connection: AsyncConnection, session_id: str, *, now: datetime, until: datetime) -> None:
    """Let a session count no more; `until` is when it would have ended by itself. Forgets those that have by now."""
    await connection.execute(delete(ended_sessions).where(ended_sessions.c.until < now))
    await connection.execute(
        insert_if_new(ended_sessions, connection.dialect).values(session_id=session_id, until=until)
    )


async def is_ended(connection: AsyncConnection, session_id: str) -> bool:
    """Whether somebody has logged out of it."""
    return bool(await which_ended(connection, [session_id]))


async def which_ended(connection: AsyncConnection, session_ids: Collection[str]) -> set[str]:
    """Those of a few sessions that somebody has logged out of."""
    statement = select(ended_sessions.c.session_id).where(ended_sessions.c.session_id.in_(session_ids))
    return set((await connection.execute(statement)).scalars())
