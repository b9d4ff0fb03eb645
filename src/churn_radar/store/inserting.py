"""Arrivals go to disk on a thread of their own, in one hop: begin, insert, commit, with nothing awaited between.

The event loop runs on meanwhile, so the next batch gathers while this one is synced to disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from churn_radar.errors import RecordUnavailable
from churn_radar.store.arrivals import Accepted, Arrival, insert_arrivals

# The busy timeout, in milliseconds, is for foreign programs (a backup) that hold the file: two of them in a row
# stay under the four seconds that Customer.io waits.
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA busy_timeout=1500",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
)


class ArrivalThread:
    """One thread, one connection, one transaction at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="arrivals")
        self._connection: sqlite3.Connection | None = None

    async def insert(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Commit a batch; returns one outcome per arrival, in order.

        Raises RecordUnavailable when the database cannot take it now, with nothing of the batch kept.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._commit, arrivals)

    def _commit(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        try:
            cursor = self._open().cursor()
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
        if self._connection is not None:
            self._connection.close()
