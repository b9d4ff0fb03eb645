"""Group commit: everything that waits to be written shares one transaction and one fsync.

A commit to disk costs about the same for one row as for a hundred, so the writer takes whatever has queued up
while the last commit ran, writes it in one transaction, and only then tells each waiting caller. Churn events
from the door go as one batch; other work (the results of the job steps) as another, each piece in a savepoint,
so that one failing piece does not take its neighbours down.

There is exactly one writer task for a record in a process. On SQLite it is the only thing that writes; on Postgres it
carries the door's rows, and other work has transactions of its own (`churn_radar.store.transactions`). Whatever fails
in a batch, those who wait for it are told and the next batch is written; should the task end all the same, everybody is
told at once, and readiness shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import structlog
from sqlalchemy.exc import OperationalError

from churn_radar.errors import NotStorable, RecordUnavailable
from churn_radar.store.arrivals import MOST_ROWS, Accepted, Arrival
from churn_radar.store.thread import Outcome, T, Work
from churn_radar.store.waiting import Row, Unit, fail, give_up, refuse

log = structlog.get_logger(__name__)

STOPPED = "the record's writer has stopped; restart the service"

# Few enough that at the usual number of connections the loop reads and answers some requests while others are
# committed; all in one commit, each of the two would wait for the other. And no more than one statement takes.
MAX_BATCH = MOST_ROWS
# Few enough that the door, whose rows go first, never waits long for the work's turn to end.
MAX_UNITS = 16


class GroupWriter:
    """Serialises what one process writes to a record, and shares commits between them.

    `insert` commits a batch of the door's; `run`, where there is one, pieces of work (see `WriterThread` for both).
    `on_committed` hears of each batch of arrivals after its commit; if it fails, that is logged and no more.
    """

    def __init__(
        self,
        insert: Callable[[Sequence[Arrival]], Awaitable[list[Accepted]]],
        run: Callable[[Sequence[Work[Any]]], Awaitable[list[Outcome]]] | None = None,
        *,
        on_committed: Callable[[Sequence[Any]], None],
        timeout_seconds: float = 3.0,
        max_waiting: int = 2000,
    ) -> None:
        self._insert = insert
        self._run_units = run
        self._on_committed = on_committed
        self._timeout = timeout_seconds
        self._max_waiting = max_waiting
        self._rows: list[Row] = []
        self._in_commit: list[Row] = []
        self._units: list[Unit] = []
        self._in_work: list[Unit] = []
        self._wake = asyncio.Event()
        self._stopping = self._died = False
        self._task: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin writing; needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="record-writer")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Write what is queued, then end; never raises, also where the writer has died before."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        if self._sweep is not None:
            self._sweep.cancel()

    @property
    def waiting(self) -> int:
        """Door rows that are not committed yet."""
        return len(self._rows) + len(self._in_commit)

    def require_alive(self) -> None:
        """Raises RecordUnavailable when the writer has died: then nothing is written until the service is restarted."""
        if self._died:
            raise RecordUnavailable(STOPPED)

    def add_row(self, value: Any) -> asyncio.Future[Any]:
        """Queue one door row; the future holds its outcome once committed.

        Raises RecordUnavailable at once when too many wait already. The future fails with RecordUnavailable
        when the commit fails or takes longer than the timeout; in the latter case the row may still be
        committed a moment later, which the sender's retry then finds as a duplicate.
        """
        self.require_alive()
        if self._stopping or self.waiting >= self._max_waiting:
            raise RecordUnavailable("too many requests wait for a commit")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._rows.append(Row(value, done, loop.time()))
        self._wake.set()
        if self._sweep is None:
            self._sweep = loop.call_later(self._timeout, self._expire)
        return done

    async def write(self, work: Work[T]) -> T:
        """Run `work(connection)` in the next commit and return its result once that is on disk.

        Raises whatever `work` raises (its own changes are rolled back), or RecordUnavailable when the database
        fails, at work or at the commit. `work` may run a second time when a neighbour spoils the shared
        transaction: it must only touch the record.
        """
        self.require_alive()
        if self._stopping or self._run_units is None:
            raise RecordUnavailable("the record is closing")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._units.append(Unit(work, done))
        self._wake.set()
        return cast("T", await done)

    def _expire(self) -> None:
        """Fail rows that have waited too long; one timer serves them all."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for row in (*self._in_commit, *self._rows):
            if not row.done.done() and now - row.since >= self._timeout:
                row.done.set_exception(RecordUnavailable("the commit took too long"))
        waiting = [row.since for row in (*self._in_commit, *self._rows) if not row.done.done()]
        self._sweep = loop.call_later(max(0.05, min(waiting) + self._timeout - now), self._expire) if waiting else None

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._rows or self._units:
                if self._rows:
                    await self._door_turn()
                if self._units:
                    await self._work_turn()
            if self._stopping:
                return

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A writer that was not told to end can write nothing more, and whoever waits for it would wait for ever."""
        if not task.cancelled() and task.exception() is None:
            return
        self._died = True
        waiting: list[Row | Unit] = [*self._in_commit, *self._rows, *self._in_work, *self._units]
        self._in_commit, self._rows, self._in_work, self._units = [], [], [], []
        refuse(waiting, STOPPED)
        log.error(
            "record.writer_died",
            waiting=len(waiting),
            exc_info=None if task.cancelled() else task.exception(),
            hint="nothing is stored any more; restart the service",
        )

    async def _door_turn(self) -> None:
        batch, self._rows = self._rows[:MAX_BATCH], self._rows[MAX_BATCH:]
        # Whoever has been refused meanwhile sends again; kept now, that would look like a duplicate.
        self._in_commit = [row for row in batch if not row.done.done()]
        if not self._in_commit:
            return
        try:
            await self._commit_rows(self._in_commit)
        except Exception:
            give_up(self._in_commit)
        self._in_commit = []

    async def _work_turn(self) -> None:
        """Commit some work."""
        self._in_work, self._units = self._units[:MAX_UNITS], self._units[MAX_UNITS:]
        try:
            await self._commit_units(self._in_work)
        except Exception:
            give_up([unit for unit in self._in_work if unit not in self._units])
        self._in_work = []

    async def _commit_rows(self, rows: list[Row]) -> None:
        try:
            outcomes = await self._insert([row.value for row in rows])
        except Exception as error:
            if len(rows) > 1 and not isinstance(error, RecordUnavailable):
                # One of them spoils it for all: give each its own transaction.
                for row in rows:
                    await self._commit_rows([row])
                return
            # Alone in its transaction, and not for the database's state: it is the row.
            fail(rows, error, NotStorable if len(rows) == 1 else RecordUnavailable)
            return
        for row, outcome in zip(rows, outcomes, strict=True):
            if not row.done.done():
                row.done.set_result(outcome)
        try:
            self._on_committed(outcomes)
        except Exception:
            # The rows are safe, and are taken up at the next start; a writer that ended here would take nothing more.
            log.exception("record.hand_over_failed", rows=len(rows))

    async def _commit_units(self, units: list[Unit]) -> None:
        assert self._run_units is not None  # noqa: S101  `write` takes nothing without it
        try:
            outcomes = await self._run_units([unit.work for unit in units])
        except Exception as error:
            if len(units) > 1 and not isinstance(error, OperationalError):
                for unit in units:
                    await self._commit_units([unit])
                return
            fail(units, error)
            return
        # What there was no time for goes first in the next one.
        self._units[:0] = units[len(outcomes) :]
        for unit, (result, raised) in zip(units, outcomes, strict=False):
            if unit.done.done():
                continue
            if raised is None:
                unit.done.set_result(result)
            else:
                unit.done.set_exception(raised)
