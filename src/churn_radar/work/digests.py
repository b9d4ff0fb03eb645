"""Sends digests: each period's once over all replicas, late where nobody was there when it was due.

A row of the record decides whose turn it is. Between a message and its note in the record a crash may repeat that
message; it has the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from churn_radar.errors import RecordUnavailable
from churn_radar.links import briefs_page
from churn_radar.outcome.rules import Outcome
from churn_radar.sinks.digest import Figures, Period, Plan, digest_message, due_period, next_due, with_missed
from churn_radar.sinks.message import Link, Message
from churn_radar.sinks.protocol import Sink, Speaker, kind_of
from churn_radar.store.digests import claim, is_over, read_digest_figures, settle_digest, told_periods
from churn_radar.store.record import Record
from churn_radar.store.tables import DeliveryStatus
from churn_radar.work.retry import TryAgain, decide
from churn_radar.work.steps import describe, utc_now

log = structlog.get_logger(__name__)

# A clock may be set, and another replica may have died with a digest in hand: look now and then.
LOOK_EVERY = timedelta(seconds=60)
TIMEOUT = timedelta(seconds=60)
LEASE = 2 * TIMEOUT
AT_RISK_DAYS = 30


@dataclass(frozen=True)
class Digests:
    """Watches the clock for every plan; `sinks` has the ones that the plans name."""

    record: Record
    plans: Sequence[Plan]
    sinks: Sequence[Sink]
    currency: str
    public_url: str | None = None
    retry_delays: Sequence[timedelta] = ()
    now: Callable[[], datetime] = utc_now
    _done: dict[str, str] = field(default_factory=dict, repr=False)

    async def keep_on(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Send what is due, for as long as the service runs; a failure is told, and tried again."""
        while True:
            for plan in self.plans:
                try:
                    await self.once(plan)
                except RecordUnavailable as error:
                    log.warning("digest.waits_for_the_record", cause=str(error))
                except Exception:
                    log.exception("digest.failed", digest=plan.name)
            await sleep(self._rest().total_seconds())

    async def once(self, plan: Plan) -> bool:
        """Send the digest that is due, if it is owed and nobody else has it; returns whether it was sent."""
        now = self.now()
        period = due_period(plan, now)
        if self._done.get(plan.name) == period.name:
            return False
        async with self.record.read() as connection:
            if await is_over(connection, plan.name, period.name):
                self._done[plan.name] = period.name
                return False
        mine = await self.record.write(
            lambda connection: claim(connection, plan.name, period.name, now=now, lease=LEASE)
        )
        if mine is None:
            return False
        seq, attempts = mine
        async with self.record.read() as connection:
            period = with_missed(plan, period, await told_periods(connection, plan.name))
            figures = await read_digest_figures(
                connection, period, currency=self.currency, now=now, at_risk_days=AT_RISK_DAYS
            )
        try:
            async with asyncio.timeout(TIMEOUT.total_seconds()):
                await self._speaker(plan).say(self._message(plan, period, figures))
        except Exception as error:
            await self._failed(plan, seq, attempts, error)
            return False
        await self._settle(seq, DeliveryStatus.DELIVERED, attempts + 1)
        self._done[plan.name] = period.name
        log.info("digest.sent", digest=plan.name, period=period.name, sink=kind_of(plan.sink))
        return True

    def _rest(self) -> timedelta:
        now = self.now()
        upcoming = min((next_due(plan, now) - now for plan in self.plans), default=LOOK_EVERY)
        return max(min(upcoming, LOOK_EVERY), timedelta(seconds=1))

    def _speaker(self, plan: Plan) -> Speaker:
        return next(sink for sink in self.sinks if sink.name == plan.sink and isinstance(sink, Speaker))

    def _message(self, plan: Plan, period: Period, figures: Figures) -> Message:
        page = briefs_page(self.public_url)
        links = [Link("Open the briefs", page)] if page else []
        named = {_label(name): counted for name, counted in figures.outcomes.items()}
        return digest_message(
            plan,
            period,
            replace(figures, outcomes=named),
            currency=self.currency,
            at_risk_days=AT_RISK_DAYS,
            links=links,
        )

    async def _failed(self, plan: Plan, seq: int, attempts: int, error: Exception) -> None:
        decision = decide(error, attempts=attempts, delays=self.retry_delays)
        log.warning(
            "digest.not_sent",
            digest=plan.name,
            sink=kind_of(plan.sink),
            attempt=decision.attempt,
            cause=describe(error),
        )
        again = isinstance(decision, TryAgain)
        await self._settle(
            seq,
            DeliveryStatus.PENDING if again else DeliveryStatus.DEAD,
            decision.attempt,
            delay=decision.delay if isinstance(decision, TryAgain) else None,
            reason=describe(error),
        )

    async def _settle(
        self,
        seq: int,
        status: DeliveryStatus,
        attempts: int,
        *,
        delay: timedelta | None = None,
        reason: str | None = None,
    ) -> None:
        now = self.now()
        due_at = now + delay if delay else None
        await self.record.write(
            lambda connection: settle_digest(
                connection, seq, status=status, attempts=attempts, now=now, due_at=due_at, reason=reason
            )
        )


def _label(name: str) -> str:
    return Outcome(name).label if name in list(Outcome) else name
