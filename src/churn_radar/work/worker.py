"""The worker: the steps wired into the engine.

In memory the engine is fed by the door and, after a restart, from the record. On Postgres it holds the backlog itself,
for all replicas: a job is written in the transaction of what gives rise to it, and a sweep adds what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.customerio.client import SERVICE as CUSTOMERIO
from churn_radar.errors import RecordUnavailable
from churn_radar.research.mave import SERVICE as MAVERA
from churn_radar.settings import Settings
from churn_radar.sinks.filter import Filter
from churn_radar.sinks.protocol import Outlets, Sink
from churn_radar.store.arrivals import Accepted, Verdict
from churn_radar.store.deliveries import count_owed, fresh_deliveries
from churn_radar.store.record import Record
from churn_radar.store.signals import (
    count_unfinished,
    fresh_received,
    fresh_waiting,
    signals_with_status,
)
from churn_radar.store.tables import Status
from churn_radar.work.deliver import PLACES, DeliverStep
from churn_radar.work.due import deliveries_put_off, signals_put_off
from churn_radar.work.engine import Engine
from churn_radar.work.engines import Machinery
from churn_radar.work.enrich import LookUp
from churn_radar.work.feeder import Feeder, Source
from churn_radar.work.forgotten import Forgotten
from churn_radar.work.research import Researcher, ResearchStep
from churn_radar.work.resume import resume, resume_at_start
from churn_radar.work.spending import Spending
from churn_radar.work.steps import Floor, utc_now
from churn_radar.work.takeover import back_in_line, follow_ups, put_back
from churn_radar.work.tasks import Step, Task
from churn_radar.work.triage import TriageStep
from churn_radar.work.troubles import Troubles

log = structlog.get_logger(__name__)

# A blast is looked up a hundred customers a call, ten calls a second: so many have to wait for answers at once. In
# quiet times each signal is a job of its own. A batch is settled in one piece, which holds the door up meanwhile.
TRIAGE_CONCURRENCY = 200
TRIAGE_BATCH = 50
TRIAGE_WINDOW = 2000
RESEARCH_WINDOW = 100
DELIVER_WINDOW = 100
PAGE = 1000


class Worker:
    """Carries every accepted signal to its end. One for a process.

    `machinery` is the engine and what replicas share; without it, an engine in memory.
    """

    def __init__(
        self,
        settings: Settings,
        record: Record,
        *,
        customerio: LookUp,
        mave: Researcher,
        sinks: Sequence[Sink],
        filters: Mapping[str, Filter] | None = None,
        machinery: Machinery | None = None,
        forgotten: Forgotten | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        machinery = machinery or Machinery(Engine())
        self._engine = machinery.engine
        self._shared = machinery.postgres
        self._sweep = machinery.sweep
        self._record = record
        self.floor = Floor(
            record=record,
            enqueue=self.enqueue,
            retry_delays=[timedelta(seconds=seconds) for seconds in settings.retry_delays_seconds],
            help_url=settings.help_url,
            now=now,
            troubles=machinery.troubles,
            enqueue_within=self._shared.enqueue_within if self._shared is not None else None,
        )
        self._feeder: Feeder | None = None
        if self._shared is None:
            self._feeder = Feeder(self._engine, record, _sources(self.floor.troubles), now=now)
        else:
            self._shared.on_handed_over = self._mend
        self.floor.troubles.on_recovered = self._resume
        self.spending = Spending(self.floor, settings.budget)
        triage = TriageStep(
            self.floor,
            customerio,
            settings.triage_rules,
            cool_down=timedelta(hours=settings.cool_down_hours),
            unknown_retry=timedelta(seconds=settings.unknown_customer_retry_seconds),
            aging_mrr_per_hour=settings.aging_mrr_per_hour,
            fresh_for=timedelta(minutes=settings.look_up_cache_minutes),
            stronger_anew=settings.research_stronger_signals,
            forgotten=forgotten,
        )
        self._engine.register_batches(Step.TRIAGE, triage.together, concurrency=TRIAGE_CONCURRENCY, most=TRIAGE_BATCH)
        self._engine.register(
            Step.RESEARCH,
            ResearchStep(
                self.floor,
                mave,
                Outlets(sinks, filters or {}).routes,
                settings.currency,
                self.spending,
                reuse=timedelta(days=settings.reuse_research_days),
                tell_outcomes=settings.tell_mave_outcomes,
            ),
            concurrency=settings.mavera_concurrency,
        )
        self._engine.register(
            Step.DELIVER,
            DeliverStep(self.floor, {sink.name: sink for sink in sinks}),
            # Whatever one of them holds, the others have their places.
            concurrency=PLACES * max(len(sinks), 1),
        )
        self._handing_over: set[asyncio.Task[None]] = set()
        self._resuming: set[asyncio.Task[Any]] = set()

    async def start(self) -> int:
        """Take up everything a previous process left unfinished, then run; returns how much that was.

        On Postgres that is left to the sweep: another replica may be at work on it.
        """
        taken_up = 0
        if self._shared is None:
            taken_up = await self._take_up()
        await self.spending.resume()
        self._engine.start()
        for feeding in (self._feeder, self._sweep):
            if feeding is not None:
                feeding.start()
        self._let_go(resume_at_start(self.floor))
        return taken_up

    async def _take_up(self) -> int:
        now = self.floor.now()
        interrupted = await self._record.write(lambda connection: put_back_interrupted(connection, now))
        async with self._record.read() as connection:
            taken_up = await count_unfinished(connection) + await count_owed(connection)
        if taken_up:
            log.info("work.taken_up", jobs=taken_up, interrupted=interrupted)
        return taken_up

    async def enqueue(self, tasks: Sequence[Task]) -> None:
        """Hand work to the engine, or leave it in the record until its turn comes."""
        if self._feeder is not None:
            await self._feeder.offer(tasks)
        else:
            await self._engine.enqueue(tasks)

    def accepted(self, outcomes: Sequence[Accepted]) -> None:
        """Hear of a commit at the door and start the work on what is new; never waits, never fails.

        On Postgres the work was written with what is new, in the same commit.
        """
        if self._shared is not None:
            return
        tasks = [
            Task(Step.TRIAGE, outcome.seq)
            for outcome in outcomes
            if outcome.verdict is Verdict.ACCEPTED and outcome.seq is not None
        ]
        if tasks:
            # The loop only keeps weak references to tasks; the set keeps the hand-over alive.
            handing_over = asyncio.ensure_future(self.enqueue(tasks))
            self._handing_over.add(handing_over)
            handing_over.add_done_callback(self._handing_over.discard)

    async def replayed(self, tasks: Sequence[Task]) -> None:
        """Start work that somebody asked for by hand, also where a trouble of the operator's holds it back."""
        await start_by_hand(self.floor.troubles, self.enqueue, tasks, self.floor.now())

    async def _mend(self, step: Step, seqs: Sequence[int]) -> None:
        await put_back(self.floor, step, seqs)
        await self.enqueue(await follow_ups(self.floor, step, seqs))

    def _resume(self, service: str) -> None:
        """Start to let go what waited for the end of a trouble; never waits, never fails."""
        self._let_go(resume(self.floor, service))

    def _let_go(self, going_on: Coroutine[Any, Any, Any]) -> None:
        resuming = asyncio.ensure_future(going_on)
        self._resuming.add(resuming)
        resuming.add_done_callback(self._resuming.discard)
        resuming.add_done_callback(_tell_of_failure)

    async def stop(self, grace: timedelta) -> bool:
        """Let running steps finish within `grace`; returns whether all did. The record knows the rest."""
        # The next start lets go what was not: nothing new is begun while steps finish.
        self.floor.troubles.on_recovered = lambda service: None
        letting_go = set(self._resuming)
        for resuming in letting_go:
            resuming.cancel()
        if letting_go:
            await asyncio.wait(letting_go)
        for feeding in (self._feeder, self._sweep):
            if feeding is not None:
                await feeding.stop()
        try:
            return await self._engine.stop(grace)
        except RecordUnavailable:
            return False

    @property
    def healthy(self) -> bool:
        """Whether jobs are being run."""
        fed = all(feeding.healthy for feeding in (self._feeder, self._sweep) if feeding is not None)
        return self._engine.healthy and fed

    @property
    def waits(self) -> bool:
        """Whether it goes on by itself as soon as Postgres is there again."""
        return self._shared is not None and not self._shared.ended

    @property
    def ended(self) -> bool:
        """Whether this process will run no more jobs, though others may: it has to be started again."""
        return self._shared is not None and self._shared.ended

    async def backlog(self) -> dict[str, int]:
        """How many jobs wait or run, by step."""
        return await self._engine.backlog()


async def start_by_hand(
    troubles: Troubles, enqueue: Callable[[Sequence[Task]], Awaitable[None]], tasks: Sequence[Task], now: datetime
) -> None:
    """Start work that somebody asked for, by the one call that finds out whether they have mended something first."""
    troubles.probe_now(now)
    await troubles.settled()
    await enqueue(tasks)


def _sources(troubles: Troubles) -> dict[Step, Source]:
    to_triage = signals_put_off(Status.RECEIVED, Step.TRIAGE, CUSTOMERIO, troubles)
    to_research = signals_put_off(Status.WAITING, Step.RESEARCH, MAVERA, troubles)
    return {
        Step.TRIAGE: Source(TRIAGE_WINDOW, _to_triage, to_triage),
        Step.RESEARCH: Source(RESEARCH_WINDOW, _to_research, to_research),
        Step.DELIVER: Source(DELIVER_WINDOW, _to_deliver, deliveries_put_off()),
    }


async def put_back_interrupted(connection: AsyncConnection, now: datetime) -> int:
    """Put signals whose research a crash or a stop interrupted back in the line; returns how many there were.

    Brief and status change in one transaction, so no signal that stands at `researching` has got its brief.
    """
    interrupted = await signals_with_status(connection, Status.RESEARCHING, after=0, limit=PAGE)
    return await back_in_line(connection, interrupted, reason="interrupted by a restart", now=now)


async def _to_triage(connection: AsyncConnection, limit: int) -> list[Task]:
    return [Task(Step.TRIAGE, seq) for seq in await fresh_received(connection, limit)]


async def _to_research(connection: AsyncConnection, limit: int) -> list[Task]:
    return [Task(Step.RESEARCH, seq, priority) for seq, priority in await fresh_waiting(connection, limit)]


async def _to_deliver(connection: AsyncConnection, limit: int) -> list[Task]:
    return [Task(Step.DELIVER, seq) for seq in await fresh_deliveries(connection, limit)]


def _tell_of_failure(resuming: asyncio.Task[Any]) -> None:
    """What was not let go goes on when it would have been due; this says why not sooner."""
    if not resuming.cancelled() and (error := resuming.exception()):
        log.error("work.resume_failed", exc_info=error)
