"""Step one and two: enrich (who is it?) and triage (is it worth a brief, and which persona?)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.customerio.client import SERVICE
from churn_radar.errors import RecordUnavailable
from churn_radar.privacy.tombstones import identifiers
from churn_radar.store.customers import hold_customers, remember_all, rows_now
from churn_radar.store.hints import forget_events
from churn_radar.store.signals import Move, Signal, advance, advance_all, load_signals, standing_at
from churn_radar.store.tables import Status
from churn_radar.triage.account import Rules
from churn_radar.triage.customer import CustomerRef, IdType
from churn_radar.triage.decision import Decision, Research, triage
from churn_radar.triage.kinds import HINTS
from churn_radar.triage.priority import priority
from churn_radar.work.enrich import Enriched, Found, LookUp, enrich, fresh
from churn_radar.work.forgotten import Forgotten
from churn_radar.work.hints import settle_hints
from churn_radar.work.joinable import joinable
from churn_radar.work.joining import Joining, JoinRule
from churn_radar.work.steps import Floor, fail, held, not_due
from churn_radar.work.tasks import Again, Done, Outcome, Step, Task
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
    forgotten: Forgotten | None = None

    async def __call__(self, seq: int) -> Outcome:
        """Do the step for one signal; safe to repeat."""
        return (await self.together([seq]))[0]

    async def together(self, seqs: Sequence[int]) -> list[Outcome]:
        """Do the step for some signals; returns an outcome for each, in order. Safe to repeat."""
        async with self.floor.record.read() as connection:
            loaded = await load_signals(connection, seqs)
            if self.forgotten is not None:
                await self.forgotten.hear(connection)
        loaded = await self._without_forgotten(loaded)
        outcomes: dict[int, Outcome] = {}
        due: list[Signal] = []
        for signal in loaded:
            if signal.status is not Status.RECEIVED:
                continue
            if wait := not_due(signal, self.floor.now()):
                outcomes[signal.seq] = wait
            else:
                due.append(signal)
        hints = [signal for signal in due if signal.kind in HINTS - self.rules.alert_events]
        outcomes |= await settle_hints(self.floor, hints)
        if due := [signal for signal in due if signal not in hints]:
            outcomes |= await self._triage(due)
        return [outcomes.get(seq, Done()) for seq in seqs]

    async def _without_forgotten(self, loaded: list[Signal]) -> list[Signal]:
        """Those about people who were not forgotten; the others came in before this process, or another, had heard."""
        if self.forgotten is None:
            return loaded
        gone = [each.seq for each in loaded if self.forgotten.person(each.customer) is not None]
        if gone:
            await self.floor.write(lambda connection: forget_events(connection, gone))
        return [each for each in loaded if each.seq not in gone]

    async def _triage(self, due: Sequence[Signal]) -> dict[int, Outcome]:
        seen = await fresh(self.floor.record, due, now=self.floor.now(), fresh_for=self.fresh_for)
        found: list[tuple[Signal, Found]] = [(signal, seen[signal.seq]) for signal in due if signal.seq in seen]
        # Only those that need a call ask whether one may be made: the one probe of a trouble must be a call.
        asking = [signal for signal in due if signal.seq not in seen]
        waits = await asyncio.gather(*(held(self.floor, signal, SERVICE) for signal in asking))
        outcomes: dict[int, Outcome] = {
            signal.seq: wait for signal, wait in zip(asking, waits, strict=True) if wait is not None
        }
        asking = [signal for signal in asking if signal.seq not in outcomes]
        if asking:
            refs = [signal.customer for signal in asking]
            told = await enrich(self.floor.record, self.customerio, refs, self.floor.now())
            found += zip(asking, told, strict=True)
        cases: list[_Case] = []
        # In the order of arrival: the first of a customer leads.
        for signal, each in sorted(found, key=lambda pair: pair[0].seq):
            case = await self._decide(signal, each)
            if isinstance(case, _Case):
                cases.append(case)
            else:
                outcomes[signal.seq] = case
        return outcomes | await self._settle_all(cases)

    async def _decide(self, signal: Signal, found: Found) -> _Case | Outcome:
        """What the rules say of a signal; an outcome where it ends here, or is to be tried again."""
        if isinstance(found, Exception):
            return await self._fail(signal, found)
        if found is None or (found.failure is None and (found.gone or found.known is None)):
            self.floor.troubles.clear(SERVICE)
        if (found is None or found.gone) and signal.attempts == 0 and self.unknown_retry:
            return await self._look_once_more(signal)
        if found is None:
            await self._skip_unknown(signal)
            return Done()
        try:
            return _Case(signal, found, triage(found.profile.attributes, self.rules))
        except Exception as error:
            return await self._fail(signal, error)

    async def _settle_all(self, cases: Sequence[_Case]) -> dict[int, Outcome]:
        """Write decisions down; one that cannot be written is told from the others, and does not take them with it."""
        if not cases:
            return {}
        try:
            moves = await self.floor.write_and_go_on(lambda connection: self._settle(connection, cases), _to_research)
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
        return {}

    async def _settle(self, connection: AsyncConnection, cases: Sequence[_Case]) -> dict[int, Move]:
        """Customers, states and (inside the same transaction) who joins whom; returns how each signal was moved."""
        now = self.floor.now()
        known = {case.found.known.seq: case.found.known for case in cases if case.found.known}
        await hold_customers(connection, [case.found.profile.ref for case in cases], list(known))
        standing = await standing_at(connection, [case.signal.seq for case in cases], Status.RECEIVED)
        # Whether it is forced is read anew: somebody may have replayed it so during the look-up.
        cases = [
            replace(case, signal=replace(case.signal, forced=standing[case.signal.seq]))
            for case in cases
            if case.signal.seq in standing
        ]
        cases = await self._known_again(connection, cases, now)
        customer_seqs = await self._customers(connection, cases)
        may_join = {
            customer_seq
            for case, customer_seq in zip(cases, customer_seqs, strict=True)
            if isinstance(case.decision, Research) and not case.signal.forced
        }
        joining = await joinable(connection, may_join, JoinRule(self.cool_down, self.stronger_anew), now)
        moves = {
            case.signal.seq: self._move(case, customer_seq, joining, now)
            for case, customer_seq in zip(cases, customer_seqs, strict=True)
        }
        await advance_all(connection, list(moves.values()), now)
        return moves

    async def _known_again(self, connection: AsyncConnection, cases: list[_Case], now: datetime) -> list[_Case]:
        """The cases but for those whose look-up shows that they are about somebody who was forgotten.

        Such a one leaves no row, and its new names go on the tombstone.
        """
        if self.forgotten is None:
            return cases
        await self.forgotten.hear(connection)
        kept: list[_Case] = []
        for case in cases:
            shown = case.found.profile.ref
            person = self.forgotten.person(shown) or self.forgotten.person(case.signal.customer)
            if person is None:
                kept.append(case)
                continue
            names = [*identifiers(shown), *identifiers(case.signal.customer)]
            by_kind = {kind: [name for of, name in names if of is kind] for kind in IdType}
            # Before the commit: should that fail, they are this person's names all the same.
            self.forgotten.heard(await self.forgotten.lay(connection, person, by_kind, now))
            await forget_events(connection, [case.signal.seq])
        return kept

    async def _customers(self, connection: AsyncConnection, cases: Sequence[_Case]) -> list[int]:
        """The rows of the cases' customers, in order, with what was read live written down."""
        met: dict[CustomerRef, int] = {}
        if live := [case.found for case in cases if case.found.known is None]:
            profiles = [found.profile for found in live]
            # All that is settled together was looked up together.
            rows = await remember_all(connection, profiles, live[0].seen_at)
            met = dict(zip([profile.ref for profile in profiles], rows, strict=True))
        # After the live ones: what they show may have merged a customer who was recalled before the look-up.
        known = [case.found.known for case in cases if case.found.known is not None]
        recalled = dict(zip([each.seq for each in known], await rows_now(connection, known), strict=True))
        return [recalled[case.found.known.seq] if case.found.known else met[case.found.profile.ref] for case in cases]

    def _move(self, case: _Case, customer_seq: int, joining: Joining, now: datetime) -> Move:
        signal, found, decision = case.signal, case.found, case.decision
        triaged = Triaged(
            account=decision.account,
            persona=decision.persona if isinstance(decision, Research) else None,
            attributes_source=found.source,
            attributes_seen_at=found.seen_at,
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


def _to_research(moves: Mapping[int, Move]) -> list[Task]:
    return [Task(Step.RESEARCH, move.seq, move.priority) for move in moves.values() if move.to is Status.WAITING]


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
