"""Feeds the engine from the record, a window at a time: the engine never holds the backlog, the record does.

A blast leaves thousands of signals waiting, and the engine in memory looks at every job that it holds each
time it looks for one. So of each step only so many fresh jobs are given to it; when those run low the next ones
are read from the record, in the order in which they should run. A job that is to be tried again later has left
the window: the engine keeps it until it is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import RecordUnavailable
from churn_radar.store.record import Record
from churn_radar.work.engine import Again, Engine, Outcome, Step, Task

log = structlog.get_logger(__name__)

RECORD_RETRY_SECONDS = 1.0


NextTasks = Callable[[AsyncConnection, int], Awaitable[list[Task]]]
"""Reads the fresh tasks of a step that should run next, best first, at most so many."""


@dataclass
class _Window:
    """What the engine holds of one step (fresh jobs, and those put off), and whether the record holds more."""

    size: int
    next_tasks: NextTasks
    held: set[int] = field(default_factory=set)
    put_off: set[int] = field(default_factory=set)
    more_in_record: bool = True
    lowest_priority: int = 0


class Feeder:
    """Stands between the steps and the engine. One for a process.

    `windows` tells for each step how many fresh jobs the engine may hold, and how the next ones are read.
    """

    def __init__(self, engine: Engine, record: Record, windows: Mapping[Step, tuple[int, NextTasks]]) -> None:
        self._engine = engine
        self._record = record
        self._windows = {step: _Window(size, next_tasks) for step, (size, next_tasks) in windows.items()}
        self._hungry = asyncio.Event()
        self._feeding: asyncio.Task[None] | None = None
        engine.on_finished = self.finished

    async def offer(self, tasks: Sequence[Task]) -> None:
        """Take work that has just become due; what does not fit into its window is left in the record."""
        now: list[Task] = []
        for task in tasks:
            window = self._windows[task.step]
            if task.delay is None and task.seq not in window.held:
                full = len(window.held) >= window.size
                if full and not (window.more_in_record and task.priority > window.lowest_priority):
                    window.more_in_record = True
                    # Somebody replays it: its later attempt in the engine must not keep it from being read.
                    window.put_off.discard(task.seq)
                    continue
                window.held.add(task.seq)
            now.append(task)
        await self._engine.enqueue(now)

    def finished(self, step: Step, seq: int, outcome: Outcome) -> None:
        """Hear that a job has ended, or waits in the engine for its next attempt."""
        window = self._windows[step]
        window.held.discard(seq)
        if isinstance(outcome, Again):
            window.put_off.add(seq)
        else:
            window.put_off.discard(seq)
        if window.more_in_record and len(window.held) <= window.size // 2:
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

    def stop(self) -> None:
        """Feed no more."""
        if self._feeding is not None:
            self._feeding.cancel()

    async def _feed(self) -> None:
        while True:
            await self._hungry.wait()
            self._hungry.clear()
            for window in self._windows.values():
                if window.more_in_record and len(window.held) <= window.size // 2:
                    await self._refill(window)

    async def _refill(self, window: _Window) -> None:
        # What is held still stands in the record as it did, so it comes back among the first; so may what was put off,
        # all of it: the deliveries of a sink that hangs must not hide those of the others.
        wanted = window.size + len(window.held) + len(window.put_off)
        # Said before the reading: work that is left in the record from here on is news.
        window.more_in_record = False
        try:
            async with self._record.read() as connection:
                found = await window.next_tasks(connection, wanted)
        except RecordUnavailable:
            window.more_in_record = True
            asyncio.get_running_loop().call_later(RECORD_RETRY_SECONDS, self._hungry.set)
            return
        if len(found) == wanted:
            window.more_in_record = True
        fresh = [task for task in found if task.seq not in window.held | window.put_off]
        window.held.update(task.seq for task in fresh)
        window.lowest_priority = min((task.priority for task in found), default=0)
        await self._engine.enqueue(fresh)


def _tell_of_death(feeding: asyncio.Task[None]) -> None:
    """Readiness shows a feeder that has died; this says what of."""
    if not feeding.cancelled() and (error := feeding.exception()):
        log.error("work.feeder_died", exc_info=error)
