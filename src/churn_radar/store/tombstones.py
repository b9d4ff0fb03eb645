"""Queries on the tombstones of those who were forgotten. Nothing in their table says who that was."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.privacy.tombstones import Mark
from churn_radar.store.dialect import Held, hold, insert_if_new
from churn_radar.store.tables import tombstones

PAGE = 5000


async def lay(connection: AsyncConnection, marks: Sequence[Mark], now: datetime) -> None:
    """Lay tombstones; those that are there stay."""
    if not marks:
        return
    # In turn, so that whoever reads those that are new by their numbers misses none that is committed late.
    await hold(connection, Held.TOMBSTONES)
    await connection.execute(
        insert_if_new(tombstones, connection.dialect),
        [{"person": each.person, "kind": each.kind, "mark": each.mark, "at": now} for each in marks],
    )


async def load_after(connection: AsyncConnection, seq: int) -> tuple[list[Mark], int]:
    """Tombstones that were laid after a row number, with the last one's number."""
    marks: list[Mark] = []
    while True:
        rows = await connection.execute(
            select(tombstones.c.seq, tombstones.c.person, tombstones.c.kind, tombstones.c.mark)
            .where(tombstones.c.seq > seq)
            .order_by(tombstones.c.seq)
            .limit(PAGE)
        )
        page = rows.all()
        marks += [Mark(row.person, row.kind, row.mark) for row in page]
        seq = page[-1].seq if page else seq
        if len(page) < PAGE:
            return marks, seq


async def lift(connection: AsyncConnection, marks: Sequence[str]) -> int:
    """Take every tombstone of the people away who have one of these marks; returns how many people that were."""
    people = select(tombstones.c.person).where(tombstones.c.mark.in_(marks)).distinct()
    found = list((await connection.execute(people)).scalars())
    if found:
        await connection.execute(delete(tombstones).where(tombstones.c.person.in_(found)))
    return len(found)
