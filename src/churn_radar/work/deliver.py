"""Step four: hand a brief to one sink. Each delivery stands alone: a broken sink delays and repeats no other."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import Gone
from churn_radar.research.brief import Brief
from churn_radar.sinks.protocol import Declined, Sink, kind_of
from churn_radar.store.briefs import load_brief
from churn_radar.store.deliveries import Delivery, load_delivery, settle
from churn_radar.store.sinks import stop, stopped
from churn_radar.store.tables import DeliveryStatus
from churn_radar.work.retry import TryAgain, decide
from churn_radar.work.steps import Floor, describe
from churn_radar.work.tasks import Again, Done, Outcome

log = structlog.get_logger(__name__)

TIMEOUT = timedelta(seconds=60)
# Deliveries to one sink at once: a sink that hangs holds this many places and no more.
AT_ONCE = 8
BUSY_DELAY = timedelta(seconds=2)


async def hand_over(sink: Sink, brief: Brief) -> None:
    """Deliver within a time; raises TimeoutError, or what the sink raises."""
    async with asyncio.timeout(TIMEOUT.total_seconds()):
        await sink.deliver(brief)


@dataclass(frozen=True)
class DeliverStep:
    """Takes a pending delivery to delivered, at least once."""

    floor: Floor
    sinks: Mapping[str, Sink]
    _under_way: Counter[str] = field(default_factory=Counter, repr=False)

    async def __call__(self, seq: int) -> Outcome:
        """Do the step for one delivery; after a crash it may be repeated, with the same brief id."""
        async with self.floor.record.read() as connection:
            delivery = await load_delivery(connection, seq)
            stored = await load_brief(connection, delivery.brief_seq) if delivery else None
            halted = await stopped(connection, delivery.sink) if delivery else None
        if delivery is None or stored is None or delivery.status is not DeliveryStatus.PENDING:
            return Done()
        now = self.floor.now()
        if delivery.due_at is not None and delivery.due_at > now:
            return Again(delivery.due_at - now, in_record=True)
        sink = self.sinks.get(delivery.sink)
        if sink is None or halted is not None:
            reason = f"this sink is stopped: {halted.reason}" if halted else "this sink is no longer configured"
            await self._settle(delivery, DeliveryStatus.DEAD, delivery.attempts, reason)
            return Done()
        if self._under_way[sink.name] >= AT_ONCE:
            return Again(BUSY_DELAY)
        try:
            await self._hand_over(sink, stored.brief)
        except Declined as declined:
            metrics.delivery(kind_of(delivery.sink), "skipped")
            await self._settle(delivery, DeliveryStatus.SKIPPED, delivery.attempts, str(declined))
            return Done()
        except Exception as error:
            return await self._failed(delivery, stored.brief, error)
        metrics.delivery(kind_of(delivery.sink), "delivered")
        await self._settle(delivery, DeliveryStatus.DELIVERED, delivery.attempts + 1, None)
        log.info("delivery.delivered", sink=kind_of(delivery.sink), brief_id=stored.brief.id)
        return Done()

    async def _failed(self, delivery: Delivery, brief: Brief, error: Exception) -> Outcome:
        metrics.delivery(kind_of(delivery.sink), "failed")
        decision = decide(error, attempts=delivery.attempts, delays=self.floor.retry_delays)
        reason = describe(error)
        log.warning(
            "delivery.failed",
            sink=kind_of(delivery.sink),
            brief_id=brief.id,
            attempt=decision.attempt,
            cause=reason,
        )
        if isinstance(decision, TryAgain):
            await self._settle(delivery, DeliveryStatus.PENDING, decision.attempt, reason, delay=decision.delay)
            return Again(decision.delay, in_record=True)
        if isinstance(error, Gone):
            log.error(
                "sink.stopped",
                sink=kind_of(delivery.sink),
                cause=reason,
                hint="it gets no more briefs; once the receiver is back: churn-radar sinks resume NAME",
            )
        await self._settle(delivery, DeliveryStatus.DEAD, decision.attempt, reason, stop_sink=isinstance(error, Gone))
        return Done()

    async def _hand_over(self, sink: Sink, brief: Brief) -> None:
        self._under_way[sink.name] += 1
        try:
            await hand_over(sink, brief)
        finally:
            self._under_way[sink.name] -= 1

    async def _settle(
        self,
        delivery: Delivery,
        status: DeliveryStatus,
        attempts: int,
        reason: str | None,
        *,
        delay: timedelta | None = None,
        stop_sink: bool = False,
    ) -> None:
        now = self.floor.now()

        async def work(connection: AsyncConnection) -> None:
            await settle(
                connection,
                delivery.seq,
                status=status,
                now=now,
                attempts=attempts,
                due_at=now + delay if delay else None,
                reason=reason,
            )
            if stop_sink:
                await stop(connection, delivery.sink, reason=reason or "", now=now)

        await self.floor.write(work)
