"""Everything is written on one thread with one connection: a transaction is one hop, with nothing awaited inside.

The event loop runs on meanwhile, so the next batch gathers while this one is synced to disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, StaticPool, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import RecordUnavailable
from churn_radar.store.arrivals import MOST_ROWS, Accepted, Arrival, insert_arrivals
from churn_radar.store.direct import DirectConnection, run_through

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]
Outcome = tuple[Any, Exception | None]

# The busy timeout, in milliseconds, is for foreign programs (a backup) that hold the file: two of them in a row
# stay under the four seconds that Customer.io waits.
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA busy_timeout=1500",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    # What is deleted is overwritten: a person who was forgotten must not be found in the file.
    "PRAGMA secure_delete=ON",
)

# A transaction of work ends after the piece that exceeds this.
ENOUGH_SECONDS = 0.005


class WriterThread:
    """One thread, one connection, one transaction at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="record-writer")
        self._connection: sqlite3.Connection | None = None
        self.engine = create_engine(
            "sqlite://",
            creator=self._open,
            poolclass=StaticPool,
            # Parameters are personal data, and errors end up in logs.
            hide_parameters=True,
        )
        event.listen(self.engine, "begin", _begin)

    async def insert(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Commit a batch; returns one outcome per arrival, in order.

        Raises RecordUnavailable when the database cannot take it now, with nothing of the batch kept.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._commit, arrivals)

    def _commit(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        try:
            # Closed here, not wherever the last trace of an error goes: letting go of an open cursor takes the
            # connection's lock, and the event loop would wait for it as long as this thread waits for another program.
            with contextlib.closing(self._open().cursor()) as cursor:
                if len(arrivals) <= MOST_ROWS and all(arrival.body is None for arrival in arrivals):
                    # One statement is a transaction by itself. The driver lets go of the interpreter for each, and
                    # waits for the event loop to have it back: `BEGIN` and `COMMIT` would cost more than the rows.
                    return insert_arrivals(cursor, arrivals)
                cursor.execute("BEGIN IMMEDIATE")
                try:
                    outcomes = insert_arrivals(cursor, arrivals)
                    cursor.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        cursor.execute("ROLLBACK")
                    raise
        except sqlite3.OperationalError as error:
            # SQLite's own short words (`database is locked`, `disk I/O error`), which hold no values.
            raise RecordUnavailable(f"the record cannot commit: {error}") from error
        return outcomes

    async def run(self, pieces: Sequence[Work[Any]]) -> list[Outcome]:
        """Run pieces of work in one transaction, each in a savepoint; returns (result, error) for each, in order.

        Those that were not begun within a few milliseconds are left out, at the end: the door's rows wait meanwhile.
        Raises OperationalError when the database cannot take them now, with nothing of any kept; raises what else
        spoils the transaction as a whole.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, pieces)

    def _run(self, pieces: Sequence[Work[Any]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        began = time.monotonic()
        with self.engine.begin() as connection:
            for piece in pieces:
                outcomes.append(_in_savepoint(connection, piece))
                if time.monotonic() - began > ENOUGH_SECONDS:
                    break
        return outcomes

    async def scrub(self) -> bool:
        """Take what was overwritten out of the log beside the file; False when somebody still reads from that."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._scrub)

    def _scrub(self) -> bool:
        busy, _, _ = self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                for pragma in PRAGMAS:
                    connection.execute(pragma)
            except BaseException:
                # Half set up it would go on without a foreign key, or without a sync.
                connection.close()
                raise
            self._connection = connection
        return self._connection

    async def close(self) -> None:
        """End the thread and its connection."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=True)

    def _close(self) -> None:
        self.engine.dispose()
        if self._connection is not None:
            self._connection.close()


def _begin(connection: Connection) -> None:
    # The driver's own transactions are off (isolation_level None): this is where each begins.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _in_savepoint(connection: Connection, piece: Work[Any]) -> Outcome:
    savepoint = connection.begin_nested()
    direct = cast("AsyncConnection", DirectConnection(connection))
    try:
        result = run_through(cast("Coroutine[Any, Any, Any]", piece(direct)))
    except Exception as error:
        try:
            if savepoint.is_active:
                savepoint.rollback()
        except OperationalError:
            # The savepoint is gone: SQLite drops the whole transaction on a full disk. The first error says why.
            raise error from None
        if isinstance(error, OperationalError):
            return None, RecordUnavailable(f"the record cannot commit: {error.orig}")
        return None, error
    savepoint.commit()
    return result, None
