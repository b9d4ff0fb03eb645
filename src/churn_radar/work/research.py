"""Step three: ask Mave, and keep the brief. A brief that is stored is never asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import GiveUp, RecordUnavailable, RetryLater, UpstreamError
from churn_radar.outcome.counting import day_number
from churn_radar.outcome.summary import experience
from churn_radar.research.budget import CreditsFor, Month, Spent, charges
from churn_radar.research.mave import SERVICE, MaveAnswer
from churn_radar.research.prompt import Experience, build_follow_up, build_prompt
from churn_radar.research.reuse import Opening, thread_is_lost
from churn_radar.sinks.filter import Facts
from churn_radar.sinks.protocol import Route, owed
from churn_radar.store.briefs import briefs_of_signal, insert_brief
from churn_radar.store.credits import close_entry, open_entry
from churn_radar.store.customers import hold_customer_of, load_customer
from churn_radar.store.deliveries import plan_deliveries
from churn_radar.store.joined import attach_brief
from churn_radar.store.openings import find_opening, give_thread_up, hold_openings
from churn_radar.store.outcome_sums import offers_to_persona
from churn_radar.store.signals import advance, joined_signals, last_line, load_signal
from churn_radar.store.tables import Status
from churn_radar.work.claim import Claim, account_of, spent_in_vain
from churn_radar.work.joining import done
from churn_radar.work.spending import Spending
from churn_radar.work.steps import Floor, fail, not_yet
from churn_radar.work.tasks import Done, Outcome, Step, Task
from churn_radar.work.written import Case, Written, brief_values

log = structlog.get_logger(__name__)


# How far back outcomes are told to Mave, where they are.
EXPERIENCE = timedelta(days=365)


class Researcher(Protocol):
    """Whoever can research a persona: the Mavera client. Both raise UpstreamError."""

    async def ask(self, message: str) -> MaveAnswer:
        """The answer to a prompt, in a new thread."""
        ...

    async def follow_up(self, message: str, thread_id: str) -> MaveAnswer:
        """The answer to a prompt that goes on in a thread; GiveUp when there is no such thread any more."""
        ...


@dataclass(frozen=True)
class ResearchStep:
    """Takes a waiting signal to briefed, and owes the brief to every sink.

    `reuse` is how old the research may be that a brief builds on; with zero each is researched afresh.
    """

    floor: Floor
    mave: Researcher
    sinks: Sequence[Route]
    currency: str
    spending: Spending
    reuse: timedelta = timedelta()
    tell_outcomes: bool = False
    # Claims that could not be given back when their attempt had failed, with what it failed of.
    _left: dict[int, tuple[Claim, Exception]] = field(default_factory=dict)

    async def __call__(self, seq: int) -> Outcome:
        """Do the step for one signal; safe to repeat: a stored brief is not asked for again."""
        if left := self._left.pop(seq, None):
            return await self._give_back(*left)
        async with self.floor.record.read() as connection:
            signal = await load_signal(connection, seq)
        if signal is None or signal.status is not Status.WAITING:
            return Done()
        try:
            # Before the operator's hold: the one probe that it lets through must not be a signal that may not call.
            if wait := await self.spending.put_off(signal, account_of(signal)[1].mrr):
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
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the service stops; the next start takes it up
            cut_off = RetryLater(SERVICE, "the call was cut off")
            cut_off.unanswered = 1
            return await self._give_back(claim, cut_off)
        except Exception as error:
            return await self._give_back(claim, error)

    async def _give_back(self, claim: Claim, error: Exception) -> Outcome:
        """Write a failed attempt down, unless somebody has moved the signal since it was claimed.

        What cannot be given back now is given back by the job's next attempt; nobody else would.
        """
        signal = claim.case.signal

        async def still_ours(connection: AsyncConnection) -> bool:
            # Held, so that it stays as it is until this is written: in the order in which a claim takes them.
            await hold_customer_of(connection, signal.seq)
            await load_signal(connection, signal.seq, to_change=True)
            await close_entry(connection, claim.entry, spent_in_vain(error))
            return await last_line(connection, signal.seq) == claim.line

        try:
            return await fail(self.floor, signal, error, back_to=Status.WAITING, first=still_ours)
        except BaseException:
            self._left[signal.seq] = claim, error
            raise

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
        triaged, account, persona = account_of(signal)
        case = Case(signal, customer, triaged, account, persona)
        opening = await self._opening(connection, case, now)
        entry = await open_entry(connection, seq, now=now, reused_brief_id=opening.brief_id if opening else None)
        line = await last_line(connection, seq)
        return Claim(case, line, tuple(await joined_signals(connection, seq)), entry, opening)

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
        kept = await self.floor.write_and_go_on(
            lambda connection: self._keep(connection, claim, written),
            lambda kept: [Task(Step.DELIVER, delivery, signal.priority) for delivery in kept[0]] if kept else [],
        )
        if kept is None:
            log.warning("research.not_kept", signal_id=signal.signal_id, cause="the signal was moved on meanwhile")
            return Done()
        _, told = kept
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
            experience=await self._experience(claim.case.persona) if self.tell_outcomes else (),
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

    async def _experience(self, persona: str) -> Sequence[Experience]:
        first_day = day_number(self.floor.now() - EXPERIENCE)
        async with self.floor.record.read() as connection:
            return experience(await offers_to_persona(connection, persona, first_day=first_day))

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
    ) -> tuple[list[int], tuple[Month, Spent] | None] | None:
        """Brief, states, what it cost and owed deliveries in one transaction: after a crash all is there, or none.

        None, and no brief, when somebody else has moved the signal on: it has its brief, or is asked about again.
        """
        now, signal = self.floor.now(), claim.case.signal
        spent = charges(
            brief=written.answer.credits_used,
            lost=written.answer.credits_lost,
            unanswered=written.answer.unanswered,
        )
        customer_seq = await hold_customer_of(connection, signal.seq)
        if not await advance(connection, signal.seq, expected=(Status.RESEARCHING,), to=Status.BRIEFED, now=now):
            lost = [
                replace(each, purpose=CreditsFor.LOST) if each.purpose is CreditsFor.BRIEF else each for each in spent
            ]
            await close_entry(connection, claim.entry, lost)
            return None
        earlier = await briefs_of_signal(connection, signal.seq)
        values = brief_values(claim.case, written, currency=self.currency, earlier=earlier, now=now)
        # Not that of the claim: their row may have gone into another one while Mave was thinking.
        brief_seq = await insert_brief(connection, values | {"customer_seq": customer_seq})
        await attach_brief(connection, signal.seq, brief_seq, reason=done(signal.public_id), now=now)
        entry = claim.entry if written.opening else replace(claim.entry, reused_brief_id=None)
        await close_entry(connection, entry, spent, brief_seq=brief_seq)
        facts = Facts(claim.case.account.plan, claim.case.account.mrr, claim.case.persona, signal.kind or "")
        tasks = await plan_deliveries(connection, brief_seq, owed(self.sinks, facts), now)
        return tasks, await self.spending.sums(connection)
