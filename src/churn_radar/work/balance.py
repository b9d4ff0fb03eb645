"""What this month has cost, for readiness and Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from churn_radar.errors import RecordUnavailable
from churn_radar.research.budget import Budget, Month, Spent, Standing, month_of
from churn_radar.store.credits import spent_in
from churn_radar.store.record import Record

# Anyone may ask, and a month can have many entries. Only what is shown is as old as this, never what decides.
READ_EVERY_SECONDS = 2.0
LONGEST_READ_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A month, what it has cost so far, what it may cost, and how that stands."""

    month: Month
    spent: Spent
    limit: int | None
    standing: Standing


@dataclass
class Balance:
    """Reads the ledger, at most every two seconds."""

    record: Record
    budget: Budget
    now: Callable[[], datetime]
    _shown: Shown | None = field(default=None, repr=False)
    _read_at: float = field(default=float("-inf"), repr=False)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def read(self) -> Shown | None:
        """How the month stands; None while the record cannot be read within a second."""
        try:
            async with asyncio.timeout(LONGEST_READ_SECONDS), self._reading:
                if time.monotonic() - self._read_at > READ_EVERY_SECONDS:
                    self._shown = await self._read()
                    self._read_at = time.monotonic()
        except (TimeoutError, RecordUnavailable):
            return None
        return self._shown

    async def _read(self) -> Shown:
        now = self.now()
        month = month_of(now)
        async with self.record.read() as connection:
            spent = await spent_in(connection, month, now=now)
        return Shown(month, spent, self.budget.monthly_credits, self.budget.standing(spent))
