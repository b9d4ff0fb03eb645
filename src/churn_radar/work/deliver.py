"""Step four: hand a brief to one sink. Each delivery stands alone: a broken sink delays and repeats no other."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import Gone
from churn_radar.research.brief import Brief
from churn_radar.sinks.protocol import Declined, Sink, kind_of
from churn_radar.store.briefs import load_brief
from churn_radar.store.deliveries import Delivery, load_delivery, put_off_sink, settle
from churn_radar.store.sinks import stop, stopped
from churn_radar.store.tables import DeliveryStatus
from churn_radar.work.retry import TryAgain, decide
from churn_radar.work.steps import Floor, describe
from churn_radar.work.tasks import Again, Done, Outcome

log = structlog.get_logger(__name__)

TIMEOUT = timedelta(seconds=60)
# Deliveries to one sink under way at once, and places of the engine that a sink may hold, those that wait included.
AT_ONCE = 8
PLACES = 32
BUSY_DELAY = timedelta(seconds=2)
# A sink of which nothing comes back for so long, while others wait for its places, hangs. Everything owed to it is put
# off then, in one go: looking at each of thousands again and again would take the others' time.
PATIENCE = timedelta(seconds=5)
PUT_OFF = tuple(timedelta(seconds=seconds) for seconds in (15, 30, 60, 120, 300))
# With several replicas, how long a sink may be unknown to one of them: a rolling update takes about so long.
UNKNOWN_FOR = timedelta(minutes=15)
UNKNOWN_DELAY = timedelta(minutes=1)
SLOW = "waits: this sink is slow or does not answer"


async def hand_over(sink: Sink, brief: Brief) -> None:
    """Deliver within a time; raises TimeoutError, or what the sink raises."""
    async with asyncio.timeout(TIMEOUT.total_seconds()):
        await sink.deliver(brief)


@dataclass
class _Queue:
    """What one sink has to do in this process.

    `inside` counts who has a place or waits for one, `hung` how often in a row it was put off. By the loop's clock,
    `moved_at` is when something came back last, or the first went in.
    """

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    inside: int = 0
    hung: int = 0
    moved_at: float = 0.0
    put_off_until: datetime | None = None

    async def enter(self) -> bool:
        """Wait for a place; False when the sink hangs. Whoever got one leaves again."""
        loop = asyncio.get_running_loop()
        if not self.inside:
            self.moved_at = loop.time()
        self.inside += 1
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self.moved_at + PATIENCE.total_seconds()):
                        await self.places.acquire()
                        return True
                if loop.time() >= self.moved_at + PATIENCE.total_seconds():
                    self.inside -= 1
                    return False
        except BaseException:
            self.inside -= 1
            raise

    def leave(self) -> None:
        """Give the place back."""
        self.moved_at = asyncio.get_running_loop().time()
        self.inside -= 1
        self.places.release()


@dataclass(frozen=True)
class DeliverStep:
    """Takes a pending delivery to delivered, at least once."""

    floor: Floor
    sinks: Mapping[str, Sink]
    _queues: dict[str, _Queue] = field(default_factory=lambda: defaultdict(_Queue), repr=False)

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
        if sink is None and halted is None and self._may_be_new(delivery, now):
            return Again(UNKNOWN_DELAY)
        if sink is None or halted is not None:
            reason = f"this sink is stopped: {halted.reason}" if halted else "this sink is no longer configured"
            await self._settle(delivery, DeliveryStatus.DEAD, delivery.attempts, reason)
            return Done()
        queue = self._queues[sink.name]
        if queue.put_off_until is not None and queue.put_off_until > now:
            return await self._put_off(delivery, queue.put_off_until)
        if queue.inside >= PLACES:
            return Again(BUSY_DELAY)
        if not await queue.enter():
            queue.put_off_until = self.floor.now() + PUT_OFF[min(queue.hung, len(PUT_OFF) - 1)]
            queue.hung += 1
            log.warning("sink.hangs", sink=kind_of(sink.name), until=queue.put_off_until.isoformat())
            return await self._put_off(delivery, queue.put_off_until)
        try:
            return await self._deliver(delivery, sink, stored.brief)
        finally:
            queue.leave()

    def _may_be_new(self, delivery: Delivery, now: datetime) -> bool:
        """Whether a replica that was started anew may know the sink: this one still has the settings from before."""
        return self.floor.enqueue_within is not None and now - delivery.updated_at < UNKNOWN_FOR

    async def _put_off(self, delivery: Delivery, until: datetime) -> Outcome:
        """Let everything owed to a sink wait: it holds its own places only, whatever else is owed to it."""
        await self.floor.write(lambda connection: put_off_sink(connection, delivery.sink, until=until, reason=SLOW))
        return Again(max(until - self.floor.now(), timedelta()), in_record=True)

    async def _deliver(self, delivery: Delivery, sink: Sink, brief: Brief) -> Outcome:
        try:
            await hand_over(sink, brief)
        except Declined as declined:
            metrics.delivery(kind_of(delivery.sink), "skipped")
            await self._settle(delivery, DeliveryStatus.SKIPPED, delivery.attempts, str(declined))
            return Done()
        except Exception as error:
            return await self._failed(delivery, brief, error)
        self._queues[sink.name].hung = 0
        metrics.delivery(kind_of(delivery.sink), "delivered")
        await self._settle(delivery, DeliveryStatus.DELIVERED, delivery.attempts + 1, None)
        log.info("delivery.delivered", sink=kind_of(delivery.sink), brief_id=brief.id)
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
