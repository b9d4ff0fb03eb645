"""Step one and two: enrich (who is it?) and triage (is it worth a brief, and which persona?)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.customerio.client import SERVICE
from churn_radar.errors import RecordUnavailable
from churn_radar.store.briefs import recent_brief
from churn_radar.store.customers import remember
from churn_radar.store.signals import Signal, advance, leader_under_way, load_signal
from churn_radar.store.tables import Status
from churn_radar.triage.account import Rules
from churn_radar.triage.decision import Research, Skip, triage
from churn_radar.triage.priority import priority
from churn_radar.work.engine import Again, Done, Outcome, Step, Task
from churn_radar.work.enrich import Enriched, LookUp, enrich
from churn_radar.work.steps import Floor, fail, not_yet
from churn_radar.work.triaged import Triaged

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TriageStep:
    """Takes a received signal to waiting, joined or skipped."""

    floor: Floor
    customerio: LookUp
    rules: Rules
    cool_down: timedelta
    unknown_retry: timedelta
    aging_mrr_per_hour: float = 0.0

    async def __call__(self, seq: int) -> Outcome:
        """Do the step for one signal; safe to repeat."""
        async with self.floor.record.read() as connection:
            signal = await load_signal(connection, seq)
        if signal is None or signal.status is not Status.RECEIVED:
            return Done()
        if wait := await not_yet(self.floor, signal, SERVICE):
            return wait
        try:
            return await self._triage(signal)
        except RecordUnavailable:
            raise  # no fault of the signal's: the engine tries again
        except Exception as error:
            return await fail(self.floor, signal, error, back_to=Status.RECEIVED)

    async def _triage(self, signal: Signal) -> Outcome:
        found = await enrich(self.floor.record, self.customerio, signal.customer)
        if found is None or found.failure is None:
            self.floor.troubles.clear(SERVICE)
        gone = found is None or (found.known is not None and found.failure is None)
        if gone and signal.attempts == 0 and self.unknown_retry:
            return await self._look_once_more(signal)
        if found is None:
            return await self._skip_unknown(signal)
        status, reason, tasks = await self.floor.write(lambda connection: self._settle(connection, signal, found))
        if status is not None:
            _tell(signal, status, reason)
        await self.floor.enqueue(tasks)
        return Done()

    async def _settle(
        self, connection: AsyncConnection, signal: Signal, found: Enriched
    ) -> tuple[Status | None, str | None, list[Task]]:
        """Write the decision down: customer, state and (inside the same transaction) who joins whom."""
        now = self.floor.now()
        customer_seq = found.known.seq if found.known else await remember(connection, found.profile, now)
        decision = triage(found.profile.attributes, self.rules)
        triaged = Triaged(
            account=decision.account,
            persona=decision.persona if isinstance(decision, Research) else None,
            attributes_source=found.source,
            attributes_seen_at=found.seen_at or now,
        )
        place = 0
        if isinstance(decision, Research):
            place = priority(decision.account.mrr, signal.received_at, aging_mrr_per_hour=self.aging_mrr_per_hour)
        joined_to: int | None = None
        brief_seq: int | None = None
        reason: str | None
        if isinstance(decision, Skip):
            status, reason = Status.SKIPPED, decision.reason
        else:
            joined_to, brief_seq, reason = await self._join(connection, signal, customer_seq)
            status = Status.WAITING if reason is None else Status.JOINED
        moved = await advance(
            connection,
            signal.seq,
            expected=(Status.RECEIVED,),
            to=status,
            now=now,
            reason=reason,
            customer_seq=customer_seq,
            priority=place,
            triage=triaged.as_record(),
            joined_to=joined_to,
            brief_seq=brief_seq,
        )
        if not moved:
            return None, None, []
        return status, reason, [Task(Step.RESEARCH, signal.seq, place)] if status is Status.WAITING else []

    async def _join(
        self, connection: AsyncConnection, signal: Signal, customer_seq: int
    ) -> tuple[int | None, int | None, str | None]:
        """The signal or brief to share, as (joined_to, brief_seq, reason); all None when there is none."""
        if signal.forced or not self.cool_down:
            return None, None, None
        leader = await leader_under_way(connection, customer_seq, not_seq=signal.seq)
        if leader is not None and leader.received_at > signal.received_at - self.cool_down:
            return leader.seq, None, f"shares the brief of {leader.public_id}, which is under way"
        brief_seq = await recent_brief(connection, customer_seq, now=self.floor.now(), cool_down=self.cool_down)
        if brief_seq is not None:
            return None, brief_seq, "shares the customer's brief from within the cool-down"
        return None, None, None

    async def _look_once_more(self, signal: Signal) -> Outcome:
        """Customer.io does not know this customer: they may be just being created, or renamed."""
        now = self.floor.now()
        await self.floor.write(
            lambda connection: advance(
                connection,
                signal.seq,
                expected=(Status.RECEIVED,),
                to=Status.RECEIVED,
                now=now,
                reason="Customer.io does not know this customer; looking once more",
                attempts=1,
                due_at=now + self.unknown_retry,
            )
        )
        return Again(self.unknown_retry)

    async def _skip_unknown(self, signal: Signal) -> Outcome:
        """Nobody has ever seen this customer: recorded, not researched."""
        now = self.floor.now()
        reason = "Customer.io does not know this customer (deleted?), and it was never seen here"
        moved = await self.floor.write(
            lambda connection: advance(
                connection,
                signal.seq,
                expected=(Status.RECEIVED,),
                to=Status.SKIPPED,
                now=now,
                reason=reason,
                triage=Triaged().as_record(),
            )
        )
        if moved:
            _tell(signal, Status.SKIPPED, reason)
        return Done()


def _tell(signal: Signal, status: Status, reason: str | None) -> None:
    metrics.signal(status.value)
    # A skip's reason quotes the plan, an attribute from outside: it is for the record, not for the log.
    told = None if status is Status.SKIPPED else reason
    log.info(
        f"signal.{status.value}",
        signal_id=signal.signal_id,
        event_id=signal.event_id,
        kind=signal.kind,
        reason=told,
    )
