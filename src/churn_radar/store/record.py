"""The record: one SQLite file, opened once, written by one writer, read by many.

Opening takes an exclusive lock (a second process on the same file stops with a clear line), brings the schema
up to date, and sets WAL with `synchronous=FULL`: what is committed survives a kill and a power cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import URL, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from churn_radar.errors import RecordLocked, RecordUnavailable, RecordUnusable
from churn_radar.store.arrivals import Accepted, Arrival
from churn_radar.store.schema import sqlite_path, upgrade_record
from churn_radar.store.thread import PRAGMAS, T, Work, WriterThread
from churn_radar.store.writer import GroupWriter

READERS = 4


class Record:
    """Everything that must not be lost. Made by `open_record`, closed by its context."""

    def __init__(self, engine: AsyncEngine, writer: GroupWriter, path: Path) -> None:
        self._engine = engine
        self._writer = writer
        self.path = path

    async def accept(self, arrival: Arrival) -> Accepted:
        """Store one arrival for good; returns once it is on disk.

        Raises RecordUnavailable when it cannot be committed now.
        """
        return await self.accept_soon(arrival)

    def accept_soon(self, arrival: Arrival) -> asyncio.Future[Accepted]:
        """As `accept`, without a coroutine of its own: for the door, which does this thousands of times a second."""
        return self._writer.add_row(arrival)

    async def write(self, work: Work[T]) -> T:
        """Run `work(connection)` inside the next commit; see GroupWriter.write."""
        return await self._writer.write(work)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection with a consistent view of the record, for reading only.

        Raises RecordUnavailable when the record cannot be read.
        """
        try:
            async with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise RecordUnavailable(f"the record cannot be read: {type(error).__name__}") from error

    @property
    def waiting(self) -> int:
        """Arrivals that wait for a commit."""
        return self._writer.waiting

    async def check(self) -> None:
        """Prove that the record can commit now; raises RecordUnavailable when it cannot."""

        async def touch(connection: AsyncConnection) -> None:
            # Writes a page (the header's user_version) without changing anything: a full disk shows.
            version = (await connection.execute(text("PRAGMA user_version"))).scalar_one()
            await connection.execute(text(f"PRAGMA user_version = {int(version)}"))

        await self._writer.write(touch)


def _reading(path: Path) -> AsyncEngine:
    """Connections for reading, which cannot write."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=READERS,
        max_overflow=0,
        # Parameters are personal data, and errors end up in logs.
        hide_parameters=True,
        pool_timeout=10,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _on_connect(dbapi_connection: object, _: object) -> None:
        # The driver's own transaction handling would begin too late; SQLAlchemy's "begin" event does it.
        dbapi_connection.isolation_level = None  # type: ignore[attr-defined]
        cursor = dbapi_connection.cursor()  # type: ignore[attr-defined]
        for pragma in PRAGMAS:
            cursor.execute(pragma)
        cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN")  # type: ignore[attr-defined]

    return engine


def lock_record(path: Path) -> FileLock:
    """Take the exclusive lock on a record's file, or raise RecordLocked at once.

    The lock lies beside the file itself, whichever symbolic link leads there. The operating system drops it
    when its process dies, however it dies.
    """
    lock = FileLock(f"{path.resolve()}.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise RecordLocked(
            f"{str(path)!r} is in use by another churn_radar process; stop that one, or give this one "
            "its own file in CHURN_RADAR_DATABASE_URL"
        ) from None
    except OSError as error:
        raise RecordUnusable(
            f"the lock file '{path}.lock' cannot be written ({error.strerror}); mend the owner or mode of its folder"
        ) from error
    return lock


@asynccontextmanager
async def open_record(
    database_url: str,
    *,
    on_accepted: Callable[[Sequence[Accepted]], None] = lambda accepted: None,
    commit_timeout_seconds: float = 3.0,
    max_waiting: int = 2000,
) -> AsyncIterator[Record]:
    """Open the record for as long as the context lasts; `on_accepted` hears of each commit's arrivals.

    Raises RecordLocked or RecordUnusable (see `churn_radar.store.schema`) before anything is altered.
    """
    path = sqlite_path(database_url)
    if not path.parent.is_dir():
        raise RecordUnusable(f"the folder of the database, {str(path.parent)!r}, does not exist; create it")
    lock = lock_record(path)
    try:
        upgrade_record(path)
        reading, thread = _reading(path), WriterThread(path)
        writer = GroupWriter(
            thread,
            on_committed=on_accepted,
            timeout_seconds=commit_timeout_seconds,
            max_waiting=max_waiting,
        )
        writer.start()
        try:
            yield Record(reading, writer, path)
        finally:
            await writer.stop()
            await thread.close()
            await reading.dispose()
    finally:
        lock.release()
