"""The record: one SQLite file, opened once, written by one writer, read by many; or a Postgres database.

Opening a file takes an exclusive lock (a second process on the same file stops with a clear line), brings the schema
up to date, and sets WAL with `synchronous=FULL`: what is committed survives a kill and a power cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from sqlalchemy import URL, Engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from churn_radar.errors import RecordLocked, RecordUnavailable, RecordUnusable
from churn_radar.store.arrivals import Accepted, Arrival
from churn_radar.store.dialect import Held
from churn_radar.store.postgres import is_postgres
from churn_radar.store.schema import sqlite_path, upgrade_record
from churn_radar.store.schema_postgres import EngineSchema
from churn_radar.store.thread import PRAGMAS, T, Work, WriterThread
from churn_radar.store.writer import GroupWriter

READERS = 4
# Readers of ours are done within a moment; a backup may take longer.
SCRUBS, SCRUB_EVERY_SECONDS = 20, 0.25


class Write(Protocol):
    """Runs a piece of work in a transaction."""

    def __call__(self, work: Work[T], /) -> Awaitable[T]:
        """Its result, once that is on disk."""
        ...


class Record:
    """Everything that must not be lost. Made by `open_record`, closed by its context.

    `path` is the file; None on Postgres. `name` and `folder` are for the files that are written beside it. `engines`
    are SQLAlchemy's, all that statements go through.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        rows: GroupWriter,
        *,
        write: Write,
        check: Callable[[], Awaitable[None]],
        reading: Callable[[str], AbstractContextManager[None]],
        engines: Sequence[Engine],
        path: Path | None = None,
        scrub: Callable[[], Awaitable[bool]] | None = None,
        alone: Callable[[Held, bool], AbstractAsyncContextManager[bool]] | None = None,
    ) -> None:
        self._alone = alone
        self._scrub = scrub
        self._engine = engine
        self._rows = rows
        self._write = write
        self._check = check
        self._reading = reading
        self.engines = tuple(engines)
        self.path = path
        self.name = path.stem if path else "churn_radar"
        self.folder = path.parent if path else Path()

    async def accept(self, arrival: Arrival) -> Accepted:
        """Store one arrival for good; returns once it is on disk.

        Raises RecordUnavailable when it cannot be committed now.
        """
        return await self.accept_soon(arrival)

    def accept_soon(self, arrival: Arrival) -> asyncio.Future[Accepted]:
        """As `accept`, without a coroutine of its own: for the door, which does this thousands of times a second."""
        return self._rows.add_row(arrival)

    async def write(self, work: Work[T]) -> T:
        """Run `work(connection)` inside a commit; see GroupWriter.write, and on Postgres Transactions.write."""
        return await self._write(work)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection with a consistent view of the record, for reading only.

        Raises RecordUnavailable when the record cannot be read.
        """
        with self._reading("cannot be read"):
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def alone(self, held: Held, *, wait: bool = True) -> AsyncIterator[bool]:
        """While the block runs no other process holds this; with `wait` off it is told False where one does.

        For what takes longer than a transaction may. Where the connection to the database is lost meanwhile, another
        process may begin beside this one. Raises RecordUnavailable, also when it would take too long to wait for. A
        file has one process, which takes turns by itself.
        """
        if self._alone is None:
            yield True
            return
        async with self._alone(held, wait) as ours:
            yield ours

    async def scrub(self) -> bool:
        """Leave nothing of what was deleted in the files; False when a reader was in the way all the time.

        What is deleted is overwritten at once, but the log beside the file keeps what was there before until it is
        worked in. On Postgres that is the server's affair (VACUUM, its own log, backups).
        """
        if self._scrub is None:
            return True
        for _ in range(SCRUBS):
            if await self._scrub():
                return True
            await asyncio.sleep(SCRUB_EVERY_SECONDS)
        return False

    @property
    def waiting(self) -> int:
        """Arrivals that wait for a commit."""
        return self._rows.waiting

    async def check(self) -> None:
        """Prove that the record can commit now; raises RecordUnavailable when it cannot."""
        self._rows.require_alive()
        await self._check()


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise RecordUnavailable(f"the record {what}: {type(error).__name__}") from error


async def _touch(connection: AsyncConnection) -> None:
    # Writes a page (the header's user_version) without changing anything: a full disk shows.
    version = (await connection.execute(text("PRAGMA user_version"))).scalar_one()
    await connection.execute(text(f"PRAGMA user_version = {int(version)}"))


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
    jobs_of_new: str | None = None,
    commit_timeout_seconds: float = 3.0,
    max_waiting: int = 2000,
    connections: int = 10,
    engine_schema: EngineSchema | None = None,
    schema_is_current: bool = False,
) -> AsyncIterator[Record]:
    """Open the record for as long as the context lasts; `on_accepted` hears of each commit's arrivals.

    What comes last in the list is for Postgres: `jobs_of_new` is what the statement that stores the door's signals does
    with them (see `store.jobs`), `connections` bounds the pool, `engine_schema` is what else must be up to date there,
    and with `schema_is_current` the caller has asked that already.
    Raises RecordLocked or RecordUnusable (see `churn_radar.store.schema`) before anything is altered.
    """
    if is_postgres(database_url):
        from churn_radar.store.record_postgres import open_postgres

        opening = open_postgres(
            database_url,
            on_accepted=on_accepted,
            jobs_of_new=jobs_of_new,
            commit_timeout_seconds=commit_timeout_seconds,
            max_waiting=max_waiting,
            connections=connections,
            engine_schema=engine_schema,
            schema_is_current=schema_is_current,
        )
    else:
        opening = _open_file(
            sqlite_path(database_url),
            on_accepted=on_accepted,
            commit_timeout_seconds=commit_timeout_seconds,
            max_waiting=max_waiting,
        )
    async with opening as record:
        yield record


@asynccontextmanager
async def _open_file(
    path: Path,
    *,
    on_accepted: Callable[[Sequence[Accepted]], None],
    commit_timeout_seconds: float,
    max_waiting: int,
) -> AsyncIterator[Record]:
    if not path.parent.is_dir():
        raise RecordUnusable(f"the folder of the database, {str(path.parent)!r}, does not exist; create it")
    lock = lock_record(path)
    try:
        upgrade_record(path)
        engine, thread = _reading(path), WriterThread(path)
        writer = GroupWriter(
            thread.insert,
            thread.run,
            on_committed=on_accepted,
            timeout_seconds=commit_timeout_seconds,
            max_waiting=max_waiting,
        )
        writer.start()
        try:
            yield Record(
                engine,
                writer,
                write=writer.write,
                check=lambda: writer.write(_touch),
                reading=_readable,
                engines=[engine.sync_engine, thread.engine],
                path=path,
                scrub=thread.scrub,
            )
        finally:
            await writer.stop()
            await thread.close()
            await engine.dispose()
    finally:
        lock.release()
