"""The engine that runs jobs: PgQueuer, behind one small class of ours so that it can be replaced.

It dispatches by priority, delays retries, bounds concurrency and waits for running jobs at the end. It never
holds the only copy of anything: a job is only the name of a step and a row number of the record.

What is particular to PgQueuer in memory, and handled here: its log and statistics grow for ever unless
cleared, so a timer clears them; a failed job is deleted with its trace logged, so steps never raise into it
but answer with a delay; and a full entrypoint is looked at again every 100 ms, so the concurrency of the quick
steps is set well above what they need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from pgqueuer import PgQueuer, RetryRequested
from pgqueuer.adapters.inmemory import InMemoryDriver, InMemoryQueries
from pgqueuer.models import Channel, Job

from churn_radar.work.attempt import attempt, one_by_one, pack, tell_of_death, unpack
from churn_radar.work.rush import Rush
from churn_radar.work.tasks import Again, BatchHandler, Handler, Outcome, Step, Task

CLEAR_LOGS_EVERY = timedelta(seconds=60)
BATCH_SIZE = 50


class _Queries(InMemoryQueries):
    """PgQueuer's own, that take one job at a time while events rush in at the door."""

    gives_way: Callable[[], Awaitable[bool]] | None = None

    async def dequeue(self, batch_size: int, *arguments: Any, **named: Any) -> list[Job]:
        """Wait for the end of a rush, as long as a portion of work has to; then pick jobs."""
        rushed = self.gives_way is not None and await self.gives_way()
        return await super().dequeue(1 if rushed else batch_size, *arguments, **named)


class Engine:
    """Runs the registered steps until stopped. One for a process."""

    def __init__(self) -> None:
        driver = InMemoryDriver()
        self._queries = _Queries(driver=driver)
        self._pgq = PgQueuer(driver, channel=Channel(self._queries.qbq.settings.channel), queries=self._queries)
        self._running: asyncio.Task[None] | None = None
        self._clearing: asyncio.Task[None] | None = None
        self._most: dict[Step, int] = {}
        self._in_flight: dict[tuple[Step, int], asyncio.Task[Any] | None] = {}
        self._once_more: dict[tuple[Step, int], int] = {}
        self.on_finished: Callable[[Step, int, Outcome], None] = lambda step, seq, outcome: None

    def register(self, step: Step, handler: Handler, *, concurrency: int) -> None:
        """Let `handler(seq)` do a step, at most `concurrency` at once."""

        self.register_batches(step, one_by_one(handler), concurrency=concurrency, most=1)

    def register_batches(self, step: Step, handler: BatchHandler, *, concurrency: int, most: int) -> None:
        """Let `handler(seqs)` do a step for up to `most` rows at a time, at most `concurrency` times at once.

        It answers with an outcome for each row, in order.
        """
        self._most[step] = most

        @self._pgq.entrypoint(step.value, concurrency_limit=concurrency)
        async def run(job: Job) -> None:
            named = dict.fromkeys(unpack(job.payload))
            seqs = [seq for seq in named if (step, seq) not in self._in_flight]
            # A second job of a step that is under way: the first one may have looked before the reason for the second
            # was there, a replay for instance. Looking once more costs little; not looking would lose it.
            self._once_more |= {(step, seq): job.priority for seq in named if (step, seq) in self._in_flight}
            if not seqs:
                return
            task = asyncio.current_task()
            self._in_flight.update({(step, seq): task for seq in seqs})
            try:
                outcomes = await attempt(step, seqs, handler, task)
            finally:
                for seq in seqs:
                    del self._in_flight[step, seq]
            for seq, outcome in zip(seqs, outcomes, strict=True):
                self.on_finished(step, seq, outcome)
            once_more = [(seq, self._once_more.pop((step, seq), None)) for seq in seqs]
            await self.enqueue([Task(step, seq, priority) for seq, priority in once_more if priority is not None])
            again = [
                (seq, outcome.delay)
                for seq, outcome in zip(seqs, outcomes, strict=True)
                if isinstance(outcome, Again) and not outcome.in_record
            ]
            if again and len(seqs) == 1:
                raise RetryRequested(delay=again[0][1])
            await self.enqueue([Task(step, seq, job.priority, delay) for seq, delay in again])

    async def enqueue(self, tasks: Sequence[Task]) -> None:
        """Add work, dearest first within a step."""
        jobs = pack(tasks, self._most)
        if jobs:
            await self._queries.enqueue(
                [job.step.value for job in jobs],
                [job.payload for job in jobs],
                [job.priority for job in jobs],
                [job.delay for job in jobs],
            )

    def give_way_to(self, rush: Rush) -> None:
        """Take few jobs while events rush in at the door."""
        self._queries.gives_way = rush.give_way

    def start(self) -> None:
        """Begin to run jobs; needs a running event loop."""
        self._running = asyncio.create_task(self._pgq.qm.run(batch_size=BATCH_SIZE), name="engine")
        self._running.add_done_callback(tell_of_death)
        self._clearing = asyncio.create_task(self._clear_logs(), name="engine-log-clearing")

    async def stop(self, grace: timedelta) -> bool:
        """Take no new job, wait for running ones as long as `grace`, then cancel them.

        Returns whether all ended by themselves. A cancelled step is taken up again at the next start.
        """
        if self._clearing is not None:
            self._clearing.cancel()
        if self._running is None:
            return True
        self._pgq.shutdown.set()
        finished, _ = await asyncio.wait({self._running}, timeout=grace.total_seconds())
        if not finished:
            # Each by itself: PgQueuer waits for its jobs, so cancelling it alone may cancel none of them.
            for task in self._in_flight.values():
                if task is not None:
                    task.cancel()
            self._running.cancel()
            await asyncio.wait({self._running}, timeout=5)
        return bool(finished)

    @property
    def healthy(self) -> bool:
        """Whether the engine is running."""
        return self._running is not None and not self._running.done()

    async def backlog(self) -> dict[str, int]:
        """How many jobs wait or run, by step; one of the triage may stand for many signals."""
        counts = {step.value: 0 for step in Step}
        for line in await self._queries.queue_size():
            counts[line.entrypoint] += line.count
        return counts

    async def _clear_logs(self) -> None:
        while True:
            await asyncio.sleep(CLEAR_LOGS_EVERY.total_seconds())
            await self._queries.clear_queue_log()
            await self._queries.clear_statistics_log()
