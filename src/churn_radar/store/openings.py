"""Queries on briefs that opened a Mavera thread in which a brief for a like customer can be asked for."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import exists, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.research.budget import LONGEST_CALL
from churn_radar.research.reuse import MOST_FOLLOW_UPS, Opening
from churn_radar.store.dialect import Held, hold
from churn_radar.store.tables import REUSABLE, UNDER_WAY, briefs, credits


async def find_opening(
    connection: AsyncConnection, *, persona: str, kind: str, plan: str, since: datetime, now: datetime
) -> Opening | None:
    """The newest brief since `since` that opened a thread about this kind of customer, if the thread is free.

    Nothing is documented about two questions in one thread at once, so a thread in which one is under way is passed
    over, and so is one that has been gone on in often enough.
    """
    follow_ups = briefs.alias("follow_ups")
    asked_now = exists().where(
        text(UNDER_WAY), credits.c.reused_brief_id == briefs.c.brief_id, credits.c.spent_at > now - LONGEST_CALL
    )
    asked = (
        select(func.count())
        .select_from(follow_ups)
        .where(follow_ups.c.reused_brief_id == briefs.c.brief_id)
        .scalar_subquery()
    )
    row = (
        await connection.execute(
            select(briefs.c.brief_id, briefs.c.mave_thread_id)
            .where(
                text(REUSABLE),
                briefs.c.persona_type == persona,
                briefs.c.event_type == kind,
                briefs.c.plan == plan,
                briefs.c.created_at > since,
                ~asked_now,
                asked < MOST_FOLLOW_UPS,
            )
            .order_by(briefs.c.created_at.desc())
            .limit(1)
        )
    ).first()
    return Opening(*row) if row else None


async def hold_openings(connection: AsyncConnection, *, persona: str, kind: str, plan: str) -> None:
    """Choose alone, until this transaction ends, among the threads about this kind of customer.

    Whoever chooses next finds this one taken, by the entry that this transaction makes in the ledger.
    """
    await hold(connection, Held.OPENINGS, [f"{persona} {kind} {plan}"])


async def give_thread_up(connection: AsyncConnection, opening: Opening, now: datetime) -> None:
    """Never go on in the thread of this brief again."""
    await connection.execute(update(briefs).where(briefs.c.brief_id == opening.brief_id).values(thread_lost_at=now))
