"""What waits for research, and for what: a turn, the budget, the operator, or the next attempt."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.research.budget import WAITS_FOR_BUDGET
from churn_radar.store.tables import FRESH_WAITING, Status, signals

# Counted exactly up to here; beyond it a person only needs to know that there are many.
MOST_COUNTED = 10_000
# Of those that are put off so many are looked at for the reason, the first that are due.
MOST_LOOKED_AT = 500


@dataclass(frozen=True, slots=True)
class Waits:
    """How many signals stand where. `for_budget` and `to_retry` are of the first 500 that are put off."""

    untriaged: int
    researching: int
    in_line: int
    for_budget: int
    to_retry: int

    @property
    def waiting(self) -> int:
        """All that wait for research."""
        return self.in_line + self.for_budget + self.to_retry


async def what_waits(connection: AsyncConnection) -> Waits:
    """How much unfinished work there is, by what it waits for."""
    line = select(signals.c.seq).where(text(FRESH_WAITING)).limit(MOST_COUNTED).subquery()
    put_off = (
        select(signals.c.reason)
        .where(signals.c.status == Status.WAITING, signals.c.due_at.is_not(None))
        .order_by(signals.c.due_at)
        .limit(MOST_LOOKED_AT)
    )
    reasons = list((await connection.execute(put_off)).scalars())
    for_budget = sum((reason or "").startswith(WAITS_FOR_BUDGET) for reason in reasons)
    return Waits(
        untriaged=await _count(connection, Status.RECEIVED),
        researching=await _count(connection, Status.RESEARCHING),
        in_line=(await connection.execute(select(func.count()).select_from(line))).scalar_one(),
        for_budget=for_budget,
        to_retry=len(reasons) - for_budget,
    )


async def _count(connection: AsyncConnection, status: Status) -> int:
    standing = select(signals.c.seq).where(signals.c.status == status).limit(MOST_COUNTED).subquery()
    return int((await connection.execute(select(func.count()).select_from(standing))).scalar_one())
