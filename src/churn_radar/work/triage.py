"""Step one and two: enrich (who is it?) and triage (is it worth a brief, and which persona?)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.customerio.client import SERVICE
from churn_radar.errors import RecordUnavailable
from churn_radar.research.brief import AttributesSource
from churn_radar.store.briefs import kinds_of_briefs, recent_briefs
from churn_radar.store.customers import hold_customers, remember_all, rows_of
from churn_radar.store.signals import (
    Move,
    Signal,
    advance,
    advance_all,
    leaders_under_way,
    load_signals,
    standing_at,
)
from churn_radar.store.tables import Status
from churn_radar.triage.account import Rules
from churn_radar.triage.decision import Decision, Research, triage
from churn_radar.triage.priority import priority
from churn_radar.work.engine import Again, Done, Outcome, Step, Task
from churn_radar.work.enrich import Enriched, LookUp, enrich
from churn_radar.work.joining import Joining, RecentBrief
from churn_radar.work.steps import Floor, fail, not_yet
from churn_radar.work.triaged import Triaged

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Case:
    """A received signal, its customer, and what the rules say."""

    signal: Signal
    found: Enriched
    decision: Decision


@dataclass(frozen=True)
class TriageStep:
    """Takes received signals to waiting, joined or skipped: all that were looked up together in a few statements.

    Attributes that the record has seen within `fresh_for` are not looked up again. With `stronger_anew` a signal that
    says more than those before it (a complaint after a bounce) is researched by itself once their brief is under way.
    """

    floor: Floor
    customerio: LookUp
    rules: Rules
    cool_down: timedelta
    unknown_retry: timedelta
    aging_mrr_per_hour: float = 0.0
    fresh_for: timedelta = timedelta()
    stronger_anew: bool = False

    async def __call__(self, seq: int) -> Outcome:
        """Do the step for one signal; safe to repeat."""
        return (await self.together([seq]))[0]

    async def together(self, seqs: Sequence[int]) -> list[Outcome]:
        """Do the step for some signals; returns an outcome for each, in order. Safe to repeat."""
        async with self.floor.record.read() as connection:
            loaded = await load_signals(connection, seqs)
        received = [signal for signal in loaded if signal.status is Status.RECEIVED]
        waits = await asyncio.gather(*(not_yet(self.floor, signal, SERVICE) for signal in received))
        outcomes: dict[int, Outcome] = {
            signal.seq: wait for signal, wait in zip(received, waits, strict=True) if wait is not None
        }
        due = [signal for signal in received if signal.seq not in outcomes]
        if due:
            outcomes |= await self._triage(due)
        return [outcomes.get(seq, Done()) for seq in seqs]

    async def _triage(self, due: Sequence[Signal]) -> dict[int, Outcome]:
        fresh_since = self.floor.now() - self.fresh_for if self.fresh_for else None
        refs = [signal.customer for signal in due]
        found = await enrich(self.floor.record, self.customerio, refs, fresh_since=fresh_since)
        outcomes: dict[int, Outcome] = {}
        cases: list[_Case] = []
        for signal, each in zip(due, found, strict=True):
            if isinstance(each, Exception):
                outcomes[signal.seq] = await self._fail(signal, each)
                continue
            if each is None or (each.failure is None and (each.gone or each.source is AttributesSource.LIVE)):
                self.floor.troubles.clear(SERVICE)
            if (each is None or each.gone) and signal.attempts == 0 and self.unknown_retry:
                outcomes[signal.seq] = await self._look_once_more(signal)
            elif each is None:
                await self._skip_unknown(signal)
            else:
                try:
                    cases.append(_Case(signal, each, triage(each.profile.attributes, self.rules)))
                except Exception as error:
                    outcomes[signal.seq] = await self._fail(signal, error)
        return outcomes | await self._settle_all(cases)

    async def _settle_all(self, cases: Sequence[_Case]) -> dict[int, Outcome]:
        """Write decisions down; one that cannot be written is told from the others, and does not take them with it."""
        if not cases:
            return {}
        try:
            moves = await self.floor.write(lambda connection: self._settle(connection, cases))
        except RecordUnavailable:
            raise  # no fault of the signals': the engine tries again
        except Exception as error:
            if len(cases) == 1:
                return {cases[0].signal.seq: await self._fail(cases[0].signal, error)}
            outcomes: dict[int, Outcome] = {}
            for case in cases:
                outcomes |= await self._settle_all([case])
            return outcomes
        for case in cases:
            if move := moves.get(case.signal.seq):
                _tell(case.signal, move.to, move.reason)
        waiting = [move for move in moves.values() if move.to is Status.WAITING]
        await self.floor.enqueue([Task(Step.RESEARCH, move.seq, move.priority) for move in waiting])
        return {}

    async def _settle(self, connection: AsyncConnection, cases: Sequence[_Case]) -> dict[int, Move]:
        """Customers, states and (inside the same transaction) who joins whom; returns how each signal was moved."""
        now = self.floor.now()
        known = {case.found.known.seq: case.found.known for case in cases if case.found.known}
        await hold_customers(connection, [case.found.profile.ref for case in cases], list(known))
        standing = await standing_at(connection, [case.signal.seq for case in cases], Status.RECEIVED)
        cases = [case for case in cases if case.signal.seq in standing]
        live = [case.found.profile for case in cases if case.found.known is None]
        rows = dict(zip([profile.ref for profile in live], await remember_all(connection, live, now), strict=True))
        seqs = dict(zip(known, await rows_of(connection, list(known.values())), strict=True)) if known else {}
        customer_seqs = [
            seqs[case.found.known.seq] if case.found.known else rows[case.found.profile.ref] for case in cases
        ]
        joining = await self._joining(connection, cases, customer_seqs, now)
        moves = {
            case.signal.seq: self._move(case, customer_seq, joining, now)
            for case, customer_seq in zip(cases, customer_seqs, strict=True)
        }
        await advance_all(connection, list(moves.values()), now)
        return moves

    async def _joining(
        self, connection: AsyncConnection, cases: Sequence[_Case], customer_seqs: Sequence[int], now: datetime
    ) -> Joining:
        """What there is to join for those who may."""
        may_join = {
            customer_seq
            for case, customer_seq in zip(cases, customer_seqs, strict=True)
            if isinstance(case.decision, Research) and not case.signal.forced
        }
        if not may_join or not self.cool_down:
            return Joining(timedelta())
        leaders = await leaders_under_way(connection, may_join)
        recent = await recent_briefs(connection, may_join, since=now - self.cool_down)
        kinds = await kinds_of_briefs(connection, [seq for seq, _ in recent.values()]) if self.stronger_anew else {}
        return Joining(
            self.cool_down,
            leaders=leaders,
            briefs={
                customer: RecentBrief(seq, kinds.get(seq, set()) | {kind}) for customer, (seq, kind) in recent.items()
            },
            stronger_anew=self.stronger_anew,
        )

    def _move(self, case: _Case, customer_seq: int, joining: Joining, now: datetime) -> Move:
        signal, found, decision = case.signal, case.found, case.decision
        triaged = Triaged(
            account=decision.account,
            persona=decision.persona if isinstance(decision, Research) else None,
            attributes_source=found.source,
            attributes_seen_at=found.seen_at or now,
        )
        place, joined = 0, None
        if isinstance(decision, Research):
            place = priority(decision.account.mrr, signal.received_at, aging_mrr_per_hour=self.aging_mrr_per_hour)
            joined = joining.for_signal(signal, customer_seq)
            to, reason = (Status.JOINED, joined.reason) if joined else (Status.WAITING, None)
        else:
            to, reason = Status.SKIPPED, decision.reason
        return Move(
            seq=signal.seq,
            to=to,
            reason=reason,
            customer_seq=customer_seq,
            priority=place,
            triage=triaged.as_record(),
            joined_to=joined.joined_to if joined else None,
            brief_seq=joined.brief_seq if joined else None,
        )

    async def _fail(self, signal: Signal, error: Exception) -> Outcome:
        if isinstance(error, RecordUnavailable):
            raise error  # no fault of the signal's: the engine tries again
        return await fail(self.floor, signal, error, back_to=Status.RECEIVED)

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
        return Again(self.unknown_retry, in_record=True)

    async def _skip_unknown(self, signal: Signal) -> None:
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
