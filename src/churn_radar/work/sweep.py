"""The engine on Postgres never holds the only copy either: what it has no job for is taken up from the record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from churn_radar.errors import RecordUnavailable
from churn_radar.store.postgres_driver import ERRORS, PatientDriver
from churn_radar.store.unheld import PAGE, Unheld, unheld_work
from churn_radar.work.engine_postgres import PostgresEngine
from churn_radar.work.steps import utc_now
from churn_radar.work.tasks import Step, Task, delay_until

log = structlog.get_logger(__name__)

SWEEP_EVERY = timedelta(seconds=60)
# Longer than it takes from a commit to the job that follows from it.
UNTOUCHED_FOR = timedelta(seconds=60)
STOP_SECONDS = 5.0


class Sweep:
    """Gives the engine what only the record knows of: at the start, and every minute. One replica at a time."""

    def __init__(
        self,
        driver: PatientDriver,
        engine: PostgresEngine,
        *,
        untouched_for: timedelta = UNTOUCHED_FOR,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._driver = driver
        self._engine = engine
        self._untouched_for = untouched_for
        self._now = now
        self._sweeping: asyncio.Task[None] | None = None

    async def once(self) -> int:
        """Take up what no job stands for; returns how much that was. Raises what the driver does."""
        count = 0
        while True:
            now = self._now()
            found = await unheld_work(self._driver, before=now - self._untouched_for)
            if not found:
                break
            if begun := [each.seq for each in found if each.begun]:
                await self._engine.on_handed_over(Step.RESEARCH, begun)
            await self._engine.enqueue([_task(each, now) for each in found])
            count += len(found)
            if len(found) < PAGE:
                break
        if count:
            log.info("work.taken_up", jobs=count)
        return count

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._sweeping = asyncio.create_task(self._keep_on(), name="sweep")

    @property
    def healthy(self) -> bool:
        """Whether the record is still looked through."""
        return self._sweeping is not None and not self._sweeping.done()

    async def stop(self) -> None:
        """Look no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping}, timeout=STOP_SECONDS)

    async def _keep_on(self) -> None:
        while True:
            try:
                await self.once()
            except (*ERRORS, RecordUnavailable) as error:
                log.warning("work.not_swept", cause=type(error).__name__)
            await asyncio.sleep(SWEEP_EVERY.total_seconds())


def _task(each: Unheld, now: datetime) -> Task:
    return Task(Step(each.step), each.seq, each.priority, delay_until(each.due_at, now))
