"""The troubles of all replicas: each sees the pause and its end, and one of them makes the probe.

What this process finds out holds here at once and is written in the background, in order; what others wrote is read
when Postgres tells of it, and now and then. Moments are Postgres' own, so replicas need not agree on the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Self
from uuid import UUID, uuid4

import asyncpg
import structlog

from churn_radar.errors import RecordUnavailable
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.store.troubles import Found, TroublesTable
from churn_radar.work.troubles import HAND_PROBE_DELAY, START_PROBE_DELAY, Trouble, Troubles

log = structlog.get_logger(__name__)

READ_EVERY_SECONDS = 10.0


class SharedTroubles(Troubles):
    """As Troubles, for all replicas; a context that reads and writes while it lasts, inside that of the driver."""

    def __init__(
        self, driver: PatientDriver, delays: Sequence[timedelta] | None = None, *, holder: UUID | None = None
    ) -> None:
        super().__init__(delays)
        self._table = TroublesTable(driver, holder or uuid4())
        self._to_say: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._changes = 0
        self._news = asyncio.Event()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Self]:
        """Know what stands, and hear of what changes, for as long as the context lasts."""
        tasks = [
            asyncio.create_task(self._say(), name="troubles-writing"),
            asyncio.create_task(self._listen(), name="troubles-reading"),
        ]
        try:
            await self._table.on_change(self._news.set)
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def report(self, service: str, message: str, now: datetime, status: int | None = None) -> timedelta:
        """As Troubles.report, for everybody."""
        standing = self.of(service)
        delay = super().report(service, message, now, status)
        probed = standing is not None and standing.under_way
        self._later(partial(self._table.report, service, message, status, delay, probed=probed))
        return delay

    def clear(self, service: str) -> None:
        """A call went through: whatever was wrong has been mended, for everybody."""
        if self._standing.pop(service, None) is None:
            return
        log.info("upstream.recovered", service=service)

        async def clear() -> None:
            await self._table.clear(service)
            # Not before it is written: another replica would put off again what is let go now.
            self.on_recovered(service)

        self._later(clear)

    async def turn(self, service: str, now: datetime) -> timedelta | None:
        """How long to leave a service alone; None when it may be called, by the one probe of all replicas at most."""
        if self.of(service) is None:
            return None
        await self.settled()
        if (standing := self.of(service)) is None:
            return None
        probes = await self._table.claim(service, self._delays)
        if probes is not None:
            self._changes += 1
            next_probe_at = now + self._delay(probes + 1)
            self._standing[service] = replace(standing, probes=probes, next_probe_at=next_probe_at, under_way=True)
            return None
        wait = await self._table.wait(service)
        if wait is None:
            # Another replica's call went through. What this one had put off meanwhile may go on as well.
            super().clear(service)
        return wait

    async def to_probe_at_start(self) -> Sequence[str]:
        """As Troubles.to_probe_at_start; at most once a minute over all replicas. Waits until it is known what stands.

        The call may fall to a replica that still has the old key; then the next one that starts asks again.
        """
        while not await self._know():
            pass
        return [service for service in self.current if await self._table.probe_now(service, START_PROBE_DELAY)]

    def probe_now(self, now: datetime) -> None:
        """Let the next call of whichever replica through at once; at most one in ten seconds over all of them."""
        for service, trouble in self._standing.items():
            self._standing[service] = replace(trouble, probes=0)
            self._later(partial(self._ask, service))

    async def _ask(self, service: str) -> None:
        await self._table.probe_now(service, HAND_PROBE_DELAY)

    async def settled(self) -> None:
        """Return when everybody can know of what was said here so far."""
        await self._to_say.join()

    def _later(self, say: Callable[[], Awaitable[None]]) -> None:
        self._changes += 1
        self._to_say.put_nowait(say)

    async def _say(self) -> None:
        while True:
            say = await self._to_say.get()
            try:
                await say()
            except RecordUnavailable:
                pass  # closing: whoever is left finds out for himself
            except asyncpg.PostgresError:
                log.exception("upstream.trouble_not_shared")
            finally:
                self._to_say.task_done()

    async def _listen(self) -> None:
        while True:
            self._news.clear()
            try:
                if not await self._know():
                    self._news.set()
            except RecordUnavailable:
                return
            except asyncpg.PostgresError:
                log.exception("upstream.troubles_not_read")
            with suppress(TimeoutError):
                async with asyncio.timeout(READ_EVERY_SECONDS):
                    await self._news.wait()

    async def _know(self) -> bool:
        """Take over what stands; False when it was read before what was said here meanwhile."""
        await self.settled()
        changes = self._changes
        found = await self._table.read()
        if changes != self._changes:
            return False
        self._take_over(found)
        return True

    def _take_over(self, found: Sequence[Found]) -> None:
        for service in self._standing.keys() - {row.service for row in found}:
            super().clear(service)
        for row in found:
            if (standing := self.of(row.service)) is None:
                log.warning("upstream.paused", service=row.service, cause=row.message)
            under_way = standing is not None and standing.under_way and row.is_ours
            self._standing[row.service] = Trouble(
                row.service,
                row.message,
                row.since.astimezone(UTC),
                row.next_probe_at.astimezone(UTC),
                row.status,
                row.probes,
                under_way,
            )
