"""Feeds the engine from the record, a window at a time: the engine never holds the backlog, the record does.

A blast leaves thousands of signals waiting, and the engine in memory looks at every job that it holds each
time it looks for one. So of each step only so many fresh jobs are given to it; when those run low the next ones
are read from the record, in the order in which they should run.

What is to be tried again later is held by the record alone. The feeder sleeps until the first of it is due, lets go
what is due by then, and so makes fresh work of it, which comes in its place among the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import RecordUnavailable
from churn_radar.store.record import Record
from churn_radar.work.due import PutOff
from churn_radar.work.engines import RunsSteps
from churn_radar.work.tasks import Again, Outcome, Step, Task

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0
RECORD_RETRY_SECONDS = 1.0
# What is due is known in advance; looking all the same is for a clock that was set forward meanwhile.
LOOK_EVERY = timedelta(minutes=1)
# Let go in one transaction, for which the door waits; and for how long one step's work is let go before the windows of
# the others are looked after.
PAGE = 500
ENOUGH_SECONDS = 1.0


NextTasks = Callable[[AsyncConnection, int], Awaitable[list[Task]]]
"""Reads the fresh tasks of a step that should run next, best first, at most so many."""


@dataclass(frozen=True, slots=True)
class Source:
    """How a step's work is read from the record: so many fresh jobs at a time, and what is put off when it is due."""

    window: int
    fresh: NextTasks
    put_off: PutOff


@dataclass
class _Window:
    """What the engine holds of one step: fresh jobs, and those that it alone has put off.

    `more_in_record` tells whether the record holds more. `bar` is the highest priority that work left there may have;
    before the first reading that is unknown. `ranks` are the priorities of what is held, ascending. At `look_at`, by
    the loop's clock, the record is asked what is due.
    """

    source: Source
    held: dict[int, int] = field(default_factory=dict)
    ranks: list[int] = field(default_factory=list)
    put_off: set[int] = field(default_factory=set)
    more_in_record: bool = True
    bar: float = math.inf
    look_at: float = -math.inf

    @property
    def size(self) -> int:
        """How many fresh jobs the engine may hold."""
        return self.source.window

    @property
    def runs_low(self) -> bool:
        """Whether to read on: what is held and comes before all that was left in the record is soon done."""
        return self.more_in_record and len(self.ranks) - bisect_left(self.ranks, self.bar) <= self.size // 2

    def takes(self, task: Task) -> bool:
        """Whether a fresh task goes straight to the engine: it is among the best, and overtakes none in the record."""
        if self.more_in_record and task.priority <= self.bar:
            return False
        return len(self.ranks) < self.size or task.priority > self.ranks[-self.size]

    def hold(self, task: Task) -> None:
        """The engine has got it."""
        self.held[task.seq] = task.priority
        insort(self.ranks, task.priority)

    def release(self, seq: int) -> None:
        """The engine has done it, or will try it again later."""
        if seq in self.held:
            del self.ranks[bisect_left(self.ranks, self.held.pop(seq))]

    def leave(self, priority: float) -> None:
        """Work of up to this priority is in the record and nowhere else."""
        self.bar = max(self.bar, priority) if self.more_in_record else priority
        self.more_in_record = True


class Feeder:
    """Stands between the steps and the engine. One for a process.

    `sources` tells for each step how its work is read; `now` is the clock by which work is put off.
    """

    def __init__(
        self, engine: RunsSteps, record: Record, sources: Mapping[Step, Source], *, now: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._record = record
        self._windows = {step: _Window(source) for step, source in sources.items()}
        self._now = now
        self._hungry = asyncio.Event()
        self._feeding: asyncio.Task[None] | None = None
        engine.on_finished = self.finished

    async def offer(self, tasks: Sequence[Task]) -> None:
        """Take work that has just become due; what does not fit into its window is left in the record."""
        now: list[Task] = []
        for task in tasks:
            window = self._windows[task.step]
            if task.seq not in window.held:
                if not window.takes(task):
                    window.leave(task.priority)
                    # Somebody replays it: its later attempt in the engine must not keep it from being read.
                    window.put_off.discard(task.seq)
                    if window.runs_low:
                        self._hungry.set()
                    continue
                window.hold(task)
            now.append(task)
        await self._engine.enqueue(now)

    def finished(self, step: Step, seq: int, outcome: Outcome) -> None:
        """Hear that a job has ended, is put off in the record, or waits in the engine for its next attempt."""
        window = self._windows[step]
        window.release(seq)
        window.put_off.discard(seq)
        if isinstance(outcome, Again) and outcome.in_record:
            self._look_after(window, outcome.delay)
        elif isinstance(outcome, Again):
            window.put_off.add(seq)
        if window.runs_low:
            self._hungry.set()

    def start(self) -> None:
        """Begin to feed; needs a running event loop."""
        self._hungry.set()
        self._feeding = asyncio.create_task(self._feed(), name="feeder")
        self._feeding.add_done_callback(_tell_of_death)

    @property
    def healthy(self) -> bool:
        """Whether the record is still read."""
        return self._feeding is not None and not self._feeding.done()

    async def stop(self) -> None:
        """Feed no more; the record stays open until what was being read is let go, or that would wait in vain."""
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait({self._feeding}, timeout=STOP_SECONDS)

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(window.look_at for window in self._windows.values())):
                    await self._hungry.wait()
            self._hungry.clear()
            for window in self._windows.values():
                if window.look_at <= loop.time():
                    await self._let_go(window)
                if window.runs_low:
                    await self._refill(window)

    def _look_after(self, window: _Window, delay: timedelta) -> None:
        """See to it that the record is asked what is due after `delay`, if not sooner."""
        look_at = asyncio.get_running_loop().time() + delay.total_seconds()
        if look_at < window.look_at:
            window.look_at = look_at
            self._hungry.set()

    async def _let_go(self, window: _Window) -> None:
        """Make fresh work of what is due; the best of it comes first, also where that is more than a page."""
        loop = asyncio.get_running_loop()
        enough = loop.time() + ENOUGH_SECONDS
        # Said before the reading: what is put off from here on is news.
        window.look_at = math.inf
        self._look_after(window, LOOK_EVERY)
        tasks: list[Task] = []
        try:
            while (due := await self._next_due(window)) is not None and due <= (now := self._now()):
                _leave(window, tasks)
                tasks = await self._record.write(partial(window.source.put_off.let_go, now=now, limit=PAGE))
                if loop.time() > enough:
                    break
        except RecordUnavailable:
            _leave(window, tasks)
            self._look_after(window, timedelta(seconds=RECORD_RETRY_SECONDS))
            return
        await self.offer(tasks)
        if due is not None:
            self._look_after(window, due - self._now())

    async def _next_due(self, window: _Window) -> datetime | None:
        async with self._record.read() as connection:
            return await window.source.put_off.next_due(connection)

    async def _refill(self, window: _Window) -> None:
        # What is held and among the best comes back, for it still stands in the record as it did; what is held and no
        # longer among them is surplus. What the engine alone has put off may come back too, all of it: the deliveries
        # of a sink that hangs must not hide those of the others.
        wanted = window.size + len(window.put_off)
        # Said before the reading: work that is left in the record from here on is news.
        window.more_in_record, unread = False, window.bar
        try:
            async with self._record.read() as connection:
                found = await window.source.fresh(connection, wanted)
        except RecordUnavailable:
            window.leave(unread)
            asyncio.get_running_loop().call_later(RECORD_RETRY_SECONDS, self._hungry.set)
            return
        if len(found) == wanted:
            window.leave(min(task.priority for task in found))
        fresh = [task for task in found if task.seq not in window.held and task.seq not in window.put_off]
        for task in fresh:
            window.hold(task)
        await self._engine.enqueue(fresh)


def _leave(window: _Window, tasks: Sequence[Task]) -> None:
    if tasks:
        window.leave(max(task.priority for task in tasks))


def _tell_of_death(feeding: asyncio.Task[None]) -> None:
    """Readiness shows a feeder that has died; this says what of."""
    if not feeding.cancelled() and (error := feeding.exception()):
        log.error("work.feeder_died", exc_info=error)
