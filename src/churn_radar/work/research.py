"""Step three: ask Mave, and keep the brief. A brief that is stored is never asked for again."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import GiveUp, RecordUnavailable, UpstreamError
from churn_radar.research.budget import Charge, Month, Spent, charges
from churn_radar.research.mave import SERVICE, MaveAnswer
from churn_radar.research.prompt import build_follow_up, build_prompt
from churn_radar.research.reuse import Opening, thread_is_lost
from churn_radar.store.briefs import briefs_of_signal, insert_brief
from churn_radar.store.credits import Entry, close_entry, open_entry
from churn_radar.store.customers import hold_customer_of, load_customer
from churn_radar.store.deliveries import plan_deliveries
from churn_radar.store.openings import find_opening, give_thread_up, hold_openings
from churn_radar.store.signals import Signal, advance, attach_brief, joined_signals, load_signal
from churn_radar.store.tables import Status
from churn_radar.triage.account import Account
from churn_radar.work.engine import Done, Outcome, Step, Task
from churn_radar.work.private import private_values
from churn_radar.work.spending import Spending
from churn_radar.work.steps import Floor, fail, not_yet
from churn_radar.work.triaged import Triaged
from churn_radar.work.written import Case, Written, brief_values

log = structlog.get_logger(__name__)


class Researcher(Protocol):
    """Whoever can research a persona: the Mavera client. Both raise UpstreamError."""

    async def ask(self, message: str) -> MaveAnswer:
        """The answer to a prompt, in a new thread."""
        ...

    async def follow_up(self, message: str, thread_id: str) -> MaveAnswer:
        """The answer to a prompt that goes on in a thread; GiveUp when there is no such thread any more."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """A signal taken for research: nobody else takes it, and the ledger has an open entry for it."""

    case: Case
    joined: tuple[Signal, ...]
    entry: Entry
    opening: Opening | None

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events, the signal's own first, each once."""
        return list(dict.fromkeys(s.kind for s in (self.case.signal, *self.joined) if s.kind))

    @property
    def private(self) -> Collection[str]:
        """What must not reach the prompt."""
        return private_values(self.case.customer, (self.case.signal, *self.joined))


@dataclass(frozen=True)
class ResearchStep:
    """Takes a waiting signal to briefed, and owes the brief to every sink.

    `reuse` is how old the research may be that a brief builds on; with zero each is researched afresh.
    """

    floor: Floor
    mave: Researcher
    sinks: Sequence[str]
    currency: str
    spending: Spending
    reuse: timedelta = timedelta()

    async def __call__(self, seq: int) -> Outcome:
        """Do the step for one signal; safe to repeat: a stored brief is not asked for again."""
        async with self.floor.record.read() as connection:
            signal = await load_signal(connection, seq)
        if signal is None or signal.status is not Status.WAITING:
            return Done()
        try:
            # Before the operator's hold: the one probe that it lets through must not be a signal that may not call.
            if wait := await self.spending.put_off(signal, _account_of(signal)[1].mrr):
                return wait
        except RecordUnavailable:
            raise  # no fault of the signal's: the engine tries again
        except Exception as error:
            return await fail(self.floor, signal, error, back_to=Status.WAITING)
        if wait := await not_yet(self.floor, signal, SERVICE):
            return wait
        claim = await self.floor.write(lambda connection: self._claim(connection, seq))
        if claim is None:
            return Done()
        try:
            return await self._research(claim)
        except Exception as error:
            spent = _spent_in_vain(error)
            await self.floor.write(lambda connection: close_entry(connection, claim.entry, spent))
            return await fail(self.floor, claim.case.signal, error, back_to=Status.WAITING)

    async def _claim(self, connection: AsyncConnection, seq: int) -> Claim | None:
        """Claim a waiting signal; None when it is not waiting any more (someone else has it, or it is done)."""
        now = self.floor.now()
        # Whoever joins this signal does so before, and is named in the prompt, or finds it under way.
        customer_seq = await hold_customer_of(connection, seq)
        signal = await load_signal(connection, seq)
        if signal is None or signal.status is not Status.WAITING or customer_seq is None:
            return None
        customer = await load_customer(connection, customer_seq)
        if customer is None:
            return None
        claimed = await advance(
            connection,
            seq,
            expected=(Status.WAITING,),
            to=Status.RESEARCHING,
            now=now,
            attempts=signal.attempts,
        )
        if not claimed:
            return None
        triaged, account, persona = _account_of(signal)
        case = Case(signal, customer, triaged, account, persona)
        opening = await self._opening(connection, case, now)
        entry = await open_entry(connection, seq, now=now, reused_brief_id=opening.brief_id if opening else None)
        return Claim(case, tuple(await joined_signals(connection, seq)), entry, opening)

    async def _opening(self, connection: AsyncConnection, case: Case, now: datetime) -> Opening | None:
        # Whoever has a signal researched anew wants news, not a second helping.
        if not self.reuse or case.signal.kind is None or await briefs_of_signal(connection, case.signal.seq):
            return None
        await hold_openings(connection, persona=case.persona, kind=case.signal.kind, plan=case.account.plan)
        return await find_opening(
            connection,
            persona=case.persona,
            kind=case.signal.kind,
            plan=case.account.plan,
            since=now - self.reuse,
            now=now,
        )

    async def _research(self, claim: Claim) -> Outcome:
        signal, began = claim.case.signal, self.floor.now()
        written = await self._ask(claim)
        self.floor.troubles.clear(SERVICE)
        deliveries, told = await self.floor.write(lambda connection: self._keep(connection, claim, written))
        if told is not None:
            self.spending.tell(*told)
        metrics.signal(Status.BRIEFED.value)
        metrics.credits_spent(written.answer.credits_used)
        log.info(
            "signal.briefed",
            signal_id=signal.signal_id,
            event_id=signal.event_id,
            kind=signal.kind,
            credits=written.answer.credits_used,
            seconds=round((self.floor.now() - began).total_seconds(), 1),
        )
        await self.floor.enqueue([Task(Step.DELIVER, delivery, signal.priority) for delivery in deliveries])
        return Done()

    async def _ask(self, claim: Claim) -> Written:
        """Have the research done, in the thread of an earlier brief where there is one, else afresh."""
        account, lost, unanswered = claim.case.account, 0, 0
        if claim.opening is not None:
            prompt = build_follow_up(kinds=claim.kinds, account=account, currency=self.currency, private=claim.private)
            try:
                answer = await self._timed(self.mave.follow_up(prompt, claim.opening.thread_id))
                return Written(prompt, answer, claim.opening)
            except GiveUp as error:
                if not thread_is_lost(error):
                    raise
                lost, unanswered = error.credits_lost, error.unanswered
                await self._give_thread_up(claim.opening, error)
        prompt = build_prompt(
            kinds=claim.kinds,
            persona=claim.case.persona,
            account=account,
            currency=self.currency,
            private=claim.private,
        )
        try:
            answer = await self._timed(self.mave.ask(prompt))
        except UpstreamError as error:
            error.credits_lost += lost
            error.unanswered += unanswered
            raise
        return Written(
            prompt,
            replace(answer, credits_lost=answer.credits_lost + lost, unanswered=answer.unanswered + unanswered),
        )

    async def _timed(self, asking: Awaitable[MaveAnswer]) -> MaveAnswer:
        began = self.floor.now()
        try:
            answer = await asking
        except UpstreamError as error:
            metrics.upstream(SERVICE, type(error).__name__, (self.floor.now() - began).total_seconds())
            raise
        metrics.upstream(SERVICE, "ok", (self.floor.now() - began).total_seconds())
        return answer

    async def _give_thread_up(self, opening: Opening, error: GiveUp) -> None:
        await self.floor.write(lambda connection: give_thread_up(connection, opening, self.floor.now()))
        log.info("research.thread_lost", brief_id=opening.brief_id, cause=str(error))

    async def _keep(
        self, connection: AsyncConnection, claim: Claim, written: Written
    ) -> tuple[list[int], tuple[Month, Spent] | None]:
        """Brief, states, what it cost and owed deliveries in one transaction: after a crash all is there, or none."""
        now, signal, answer = self.floor.now(), claim.case.signal, written.answer
        customer_seq = await hold_customer_of(connection, signal.seq)
        standing = await load_signal(connection, signal.seq, to_change=True)
        if standing is None or standing.status is not Status.RESEARCHING:
            # Taken for dead, and somebody else has done it meanwhile: one brief is enough.
            late = charges(brief=None, lost=answer.credits_used + answer.credits_lost, unanswered=answer.unanswered)
            await close_entry(connection, claim.entry, late)
            return [], await self.spending.sums(connection)
        earlier = await briefs_of_signal(connection, signal.seq)
        values = brief_values(claim.case, written, currency=self.currency, earlier=earlier, now=now)
        # Not that of the claim: their row may have gone into another one while Mave was thinking.
        brief_seq = await insert_brief(connection, values | {"customer_seq": customer_seq})
        await advance(
            connection,
            signal.seq,
            expected=(Status.RESEARCHING,),
            to=Status.BRIEFED,
            now=now,
            brief_seq=brief_seq,
        )
        await attach_brief(connection, signal.seq, brief_seq)
        spent = charges(brief=answer.credits_used, lost=answer.credits_lost, unanswered=answer.unanswered)
        entry = claim.entry if written.opening else replace(claim.entry, reused_brief_id=None)
        await close_entry(connection, entry, spent, brief_seq=brief_seq)
        owed = await plan_deliveries(connection, brief_seq, self.sinks, now)
        return owed, await self.spending.sums(connection)


def _account_of(signal: Signal) -> tuple[Triaged, Account, str]:
    """What triage found out about a waiting signal."""
    triaged = Triaged.model_validate(signal.triage)
    if triaged.account is None or triaged.persona is None:
        raise AssertionError("a waiting signal has been triaged")
    return triaged, triaged.account, triaged.persona


def _spent_in_vain(error: Exception) -> Sequence[Charge]:
    """What an attempt without a brief has cost; after a fault of ours nobody knows whether Mave was asked."""
    if isinstance(error, UpstreamError):
        return charges(brief=None, lost=error.credits_lost, unanswered=error.unanswered)
    return charges(brief=None, lost=0, unanswered=1)
