"""The engine for any number of replicas: PgQueuer on Postgres, with the same interface as the one in memory.

Here the engine holds the backlog itself: a job is written in the transaction that gives rise to it, and waits for its
time in the table. What is particular to PgQueuer on Postgres, and handled here: a cancelled job is deleted, so one
that a stop cuts off is put back instead; the concurrency of a step counts over all replicas; a job whose worker has
been silent for the heartbeat timeout goes to another one; and its log grows unless emptied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import structlog
from pgqueuer import PgQueuer, RetryRequested
from pgqueuer.models import Job
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import RecordUnavailable
from churn_radar.store.jobs import NAMES, JobQueries, inside, jobs_of_new, tidy, was_begun
from churn_radar.store.postgres_driver import ERRORS, PatientDriver
from churn_radar.work.attempt import Packed, attempt, merged, one_by_one, pack, tell_of_death, unpack
from churn_radar.work.rush import Rush
from churn_radar.work.tasks import Again, BatchHandler, Handler, Outcome, Step, Task

log = structlog.get_logger(__name__)

# Silence after which a worker is taken for dead. Its calls may still be under way then: not much shorter.
HEARTBEAT_TIMEOUT = timedelta(seconds=30)
# How often the queue is looked at when no notification came: one may have been lost with its connection.
POLL_EVERY = timedelta(seconds=5)
TIDY_EVERY = timedelta(seconds=60)
# As many as one look may take. Measured with three processes: 2,200 jobs a second, where 10 at a time give 1,100.
BATCH_SIZE = 50
# A row whose step is under way here already: its job waits for that one to end.
UNDER_WAY_DELAY = timedelta(seconds=1)
STOP_SECONDS = 5.0


async def _nothing_to_mend(step: Step, seqs: Sequence[int]) -> None:
    """Until somebody says otherwise."""


class PostgresEngine:
    """Runs the registered steps until stopped. One for a process; the driver must be open while it runs.

    `on_handed_over` is awaited before a step is done whose job a worker had begun and not ended: whatever that one
    left half done in the record can be put right there.
    """

    def __init__(
        self,
        driver: PatientDriver,
        *,
        heartbeat_timeout: timedelta = HEARTBEAT_TIMEOUT,
        poll_every: timedelta = POLL_EVERY,
    ) -> None:
        self._driver = driver
        self._queries = JobQueries(driver)
        self._queries.hands_over = self._may_take_over
        self._pgq = PgQueuer(driver, channel=NAMES.channel, queries=self._queries)
        self._heartbeat_timeout = heartbeat_timeout
        self._poll_every = poll_every
        self._running: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._most: dict[Step, int] = {}
        self._in_flight: dict[tuple[Step, int], asyncio.Task[Any] | None] = {}
        self._cutting_off = False
        self.on_finished: Callable[[Step, int, Outcome], None] = lambda step, seq, outcome: None
        self.on_handed_over: Callable[[Step, Sequence[int]], Awaitable[None]] = _nothing_to_mend

    def register(self, step: Step, handler: Handler, *, concurrency: int) -> None:
        """Let `handler(seq)` do a step, at most `concurrency` at once over all replicas."""

        self.register_batches(step, one_by_one(handler), concurrency=concurrency, most=1)

    def register_batches(self, step: Step, handler: BatchHandler, *, concurrency: int, most: int) -> None:
        """Let `handler(seqs)` do a step for up to `most` rows at a time, at most `concurrency` times at once.

        That counts over all replicas, which must agree on it. The handler answers with an outcome for each row.
        """
        self._most[step] = most

        @self._pgq.entrypoint(step.value, concurrency_limit=concurrency, on_failure="hold")
        async def run(job: Job) -> None:
            try:
                await self._run(step, job, handler)
            except asyncio.CancelledError:
                if not self._cutting_off:
                    raise
                raise RetryRequested(reason="cut off by a stop") from None

    def jobs_of_new(self, step: Step, *, most: int) -> str:
        """How the record adds jobs of a step with the rows that it stores: in the same statement (see `store.jobs`).

        From now on one job of the step stands for up to `most` rows, also in a process that leaves the work to others.
        """
        self._most[step] = most
        return jobs_of_new(step.value, most=most)

    async def _run(self, step: Step, job: Job, handler: BatchHandler) -> None:
        named = unpack(job.payload)
        seqs = [seq for seq in named if (step, seq) not in self._in_flight]
        again = [Task(step, seq, job.priority, UNDER_WAY_DELAY) for seq in named if (step, seq) in self._in_flight]
        if seqs:
            task = asyncio.current_task()
            self._in_flight.update({(step, seq): task for seq in seqs})
            try:

                async def after_mending(seqs: Sequence[int]) -> Sequence[Outcome]:
                    if was_begun(job):
                        log.info("work.handed_over", step=step.value, seqs=len(seqs))
                        await self.on_handed_over(step, seqs)
                    return await handler(seqs)

                outcomes = await attempt(step, seqs, after_mending, task)
            finally:
                for seq in seqs:
                    del self._in_flight[step, seq]
            for seq, outcome in zip(seqs, outcomes, strict=True):
                self.on_finished(step, seq, outcome)
                if isinstance(outcome, Again):
                    again.append(Task(step, seq, job.priority, outcome.delay))
        # A new job before this one ends, rather than PgQueuer's own retry: so a job that somebody has added meanwhile
        # and this one become one, at the earlier moment.
        await self.enqueue(again)

    async def enqueue(self, tasks: Sequence[Task]) -> None:
        """Add work, dearest first within a step. Waits for Postgres; RecordUnavailable only when stopping.

        A task that waits already, alone in its job, is not added again: it keeps the higher priority and the earlier
        moment of the two.
        """
        await self._add(self._queries, pack(tasks, self._most))

    async def enqueue_within(
        self, connection: AsyncConnection | asyncpg.Connection[Any], tasks: Sequence[Task]
    ) -> None:
        """Add work in the transaction of `connection`."""
        if tasks:
            await self._add(await inside(connection), pack(tasks, self._most))

    async def _add(self, queries: JobQueries, jobs: Sequence[Packed]) -> None:
        if not jobs:
            return
        chosen = merged(jobs)
        await queries.add(
            [job.step.value for job in chosen],
            [job.payload for job in chosen],
            [job.priority for job in chosen],
            [job.delay for job in chosen],
            [job.key for job in chosen],
        )

    def give_way_to(self, rush: Rush) -> None:
        """Take few jobs while events rush in at this process's own door."""
        self._queries.gives_way = rush.give_way

    def start(self) -> None:
        """Begin to run jobs; needs a running event loop and an open driver."""
        self._running = asyncio.create_task(
            self._pgq.qm.run(
                batch_size=BATCH_SIZE,
                dequeue_timeout=self._poll_every,
                heartbeat_timeout=self._heartbeat_timeout,
                # Its statistics are nobody's; the log is emptied by `tidy`.
                log_aggregation_interval=timedelta(),
            ),
            name="engine",
        )
        self._running.add_done_callback(tell_of_death)
        self._tidying = asyncio.create_task(self._keep_tidy(), name="engine-tidying")

    async def stop(self, grace: timedelta) -> bool:
        """Take no new job, wait for running ones as long as `grace`, then put the others back for another worker.

        Returns whether all ended by themselves.
        """
        if self._tidying is not None:
            self._tidying.cancel()
        if self._running is None:
            return True
        self._pgq.shutdown.set()
        finished, _ = await asyncio.wait({self._running}, timeout=grace.total_seconds())
        if not finished:
            self._cutting_off = True
            for task in set(self._in_flight.values()):
                if task is not None:
                    task.cancel()
            ended, _ = await asyncio.wait({self._running}, timeout=STOP_SECONDS)
            if not ended:
                self._running.cancel()
                await asyncio.wait({self._running}, timeout=STOP_SECONDS)
        return bool(finished)

    @property
    def healthy(self) -> bool:
        """Whether the engine is running and Postgres answers it."""
        return self._running is not None and not self._running.done() and self._driver.trouble is None

    @property
    def ended(self) -> bool:
        """Whether it has run, and runs no more: whatever happens, it takes no further job."""
        return self._running is not None and self._running.done()

    async def backlog(self) -> dict[str, int]:
        """How many jobs wait or run in all replicas, by step; one of the triage may stand for many signals."""
        return {step.value: 0 for step in Step} | dict(await self._queries.backlog())

    def _may_take_over(self) -> bool:
        """Not soon after Postgres was away: until then the others' heartbeats could not be written either."""
        return time.monotonic() - self._driver.connected_since > self._heartbeat_timeout.total_seconds()

    async def _keep_tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_EVERY.total_seconds())
            try:
                await tidy(self._driver)
            except (*ERRORS, RecordUnavailable) as error:
                log.debug("work.not_tidied", cause=type(error).__name__)
            except Exception:
                # A fault of ours: the tables grow, and the next time it may go well.
                log.exception("work.tidying_failed")
