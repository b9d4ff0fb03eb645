"""Once an hour: what is older than RETENTION_DAYS goes, in small pages, by one replica at a time.

The audit trail has a bound of its own, AUDIT_RETENTION_DAYS: its lines are to outlive what they tell of.

Sums outlive what they add up: those of the outcomes, of what was at risk by day, and the ledger of credits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import RecordUnavailable
from churn_radar.store.dialect import Held, try_hold
from churn_radar.store.outcome_sums import count_new
from churn_radar.store.record import Record
from churn_radar.store.retention import FINISHED, Page, remove_briefs, remove_changes, remove_customers, remove_signals
from churn_radar.store.tables import Status
from churn_radar.work.steps import utc_now

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3600.0
# Few enough that the door, whose rows wait meanwhile on SQLite, does not notice.
PAGE = 50

Remove = Callable[[AsyncConnection, datetime, int], Awaitable[Page]]


async def _briefs(connection: AsyncConnection, before: datetime, after: int) -> Page:
    return await remove_briefs(connection, before=before, after=after, limit=PAGE)


async def _customers(connection: AsyncConnection, before: datetime, after: int) -> Page:
    return await remove_customers(connection, before=before, after=after, limit=PAGE)


def _signals(status: Status) -> Remove:
    async def remove(connection: AsyncConnection, before: datetime, after: int) -> Page:
        return await remove_signals(connection, status, before=before, after=after, limit=PAGE)

    return remove


async def _audit(connection: AsyncConnection, before: datetime, after: int) -> Page:
    return await remove_changes(connection, before=before, after=after, limit=PAGE)


# In this order: a signal is needed by its brief, a customer by both.
STEPS: dict[str, Remove] = {
    "briefs": _briefs,
    **{f"signals {status.value}": _signals(status) for status in FINISHED},
    "customers": _customers,
}


@dataclass(frozen=True)
class Retention:
    """Keeps a record as young as `days` says; without, it only counts what an older release has left uncounted."""

    record: Record
    days: int | None
    now: Callable[[], datetime] = utc_now
    audit_days: int | None = None

    async def keep_on(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look once an hour, for as long as the service runs; a failure is told, and tried again."""
        while True:
            try:
                await self.once()
            except RecordUnavailable as error:
                log.warning("retention.waits_for_the_record", cause=str(error))
            except Exception:
                log.exception("retention.failed")
            await sleep(EVERY_SECONDS)

    async def once(self) -> dict[str, int]:
        """Remove what is too old; returns how many rows of what. Raises RecordUnavailable."""
        while await self.record.write(lambda connection: count_new(connection, limit=PAGE, now=self.now())) == PAGE:
            pass
        removed: dict[str, int] = {}
        steps = [(name, remove, self.days) for name, remove in STEPS.items()]
        for name, remove, days in (*steps, ("audit lines", _audit, self.audit_days)):
            if days is None:
                continue
            before = self.now() - timedelta(days=days)
            after: int | None = 0
            while after is not None:
                count, after = await self.record.write(_one_page(remove, before, after))
                if count:
                    removed[name] = removed.get(name, 0) + count
        if removed:
            log.info("retention.removed", **{n.replace(" ", "_"): c for n, c in removed.items()})
        return removed


def _one_page(remove: Remove, before: datetime, after: int) -> Callable[[AsyncConnection], Awaitable[Page]]:
    async def work(connection: AsyncConnection) -> Page:
        if not await try_hold(connection, Held.RETENTION):
            # Another replica is at it.
            return 0, None
        return await remove(connection, before, after)

    return work
