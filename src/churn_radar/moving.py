"""`churn-radar copy-record`: the whole record, from one database into another one.

Both sides are held for as long as it takes: a file by the lock that `serve` takes, a database by finding no process of
ours connected. The source is only read. The target is marked until everything is there and compared, and nothing
starts on it before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from churn_radar.errors import RecordUnusable
from churn_radar.migrating import ENGINE, inspect, name_of, upgrade
from churn_radar.store.copy_file import FileSide
from churn_radar.store.copying import Progress, Sum, compare, copy_tables
from churn_radar.store.postgres import cause, connect, driver, is_passing, is_postgres
from churn_radar.store.record import lock_record, open_record
from churn_radar.store.schema import SchemaState, inspect_record, sqlite_path, upgrade_record
from churn_radar.store.schema_postgres import MIGRATE, require_current
from churn_radar.work.steps import utc_now

_REFUSED = {
    SchemaState.EMPTY: "there is no record at {}",
    SchemaState.OLDER: f"the record at {{}} is of an older release; run `{MIGRATE}` on it first",
    SchemaState.NEWER: "{} was written by a newer churn_radar; run that release, or a newer one",
    SchemaState.FOREIGN: "{} is a database of another program",
    SchemaState.COPYING: "{} is an unfinished copy itself",
}


async def copy_record(
    source_url: str, target_url: str, *, progress: Progress, tell: Callable[[Sum], None]
) -> tuple[list[Sum], int]:
    """Copy a record; returns what each table holds now, and how many pieces of unfinished work go on at the target.

    `progress` is told of each batch, `tell` of each table once it is compared. Broken off, the next call goes on where
    this one was. Raises RecordLocked or RecordUnusable, in one line that says what to do.
    """
    if _place(source_url) == _place(target_url):
        raise RecordUnusable(f"{name_of(source_url)} cannot be copied onto itself; name another database with --to")
    sums: list[Sum] = []

    def compared(each: Sum) -> None:
        sums.append(each)
        tell(each)

    async with _source(source_url) as source, _target(target_url) as target:
        await copy_tables(source, target, progress)
        await compare(source, target, compared)
        await target.end()
    return sums, await _take_up(target_url) if is_postgres(target_url) else 0


def _place(url: str) -> str:
    # As it was given: a parameter may say which server is meant.
    return url if is_postgres(url) else str(sqlite_path(url).resolve())


@asynccontextmanager
async def _source(url: str) -> AsyncIterator[Any]:
    if is_postgres(url):
        await require_current(url, ENGINE)
        async with _connected(url) as side:
            yield side
        return
    path = sqlite_path(url)
    if not path.is_file():
        raise RecordUnusable(
            f"there is no record at {str(path)!r}; name it with --from, or in CHURN_RADAR_DATABASE_URL"
        )
    with lock_record(path):
        _require(inspect_record(path), url, SchemaState.CURRENT)
        async with _opened(url, writes=False) as file:
            yield file


@asynccontextmanager
async def _target(url: str) -> AsyncIterator[Any]:
    """The other side, marked as half copied."""
    if is_postgres(url):
        state = await inspect(url)
        if state is SchemaState.EMPTY:
            await upgrade(url)
        elif state is not SchemaState.COPYING:
            await require_current(url, ENGINE)
        async with _connected(url) as side:
            await _begin(side, state)
            yield side
        return
    path = sqlite_path(url)
    if not path.parent.is_dir():
        inspect_record(path)  # says what is wrong
    with lock_record(path):
        state = inspect_record(path)
        _require(state, url, SchemaState.CURRENT, SchemaState.EMPTY, SchemaState.COPYING)
        if state is SchemaState.EMPTY:
            upgrade_record(path)
        async with _opened(url, writes=True) as file:
            await _begin(file, state)
            yield file


def _require(state: SchemaState, url: str, *fit: SchemaState) -> None:
    if state not in fit:
        raise RecordUnusable(_REFUSED[state].format(name_of(url)))


async def _begin(side: Any, state: SchemaState) -> None:
    if state is SchemaState.EMPTY:
        # Made a moment ago: the rows that a migration may have put there are the source's to bring.
        await side.empty()
    await side.begin()


@asynccontextmanager
async def _opened(url: str, *, writes: bool) -> AsyncIterator[FileSide]:
    side: FileSide | None = None
    try:
        side = FileSide(sqlite_path(url), writes=writes)
        yield side
    except sqlite3.Error as error:
        raise RecordUnusable(
            f"{name_of(url)}: {type(error).__name__} ({error}); mend its disk, mode or owner"
        ) from error
    finally:
        if side is not None:
            side.close()


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    from churn_radar.store.copy_postgres import PostgresSide

    connection = None
    try:
        connection = await connect(url)
        side = PostgresSide(connection)
        await side.require_alone()
        yield side
    except Exception as error:
        if isinstance(error, driver().PostgresError | driver().InterfaceError) or is_passing(error):
            what = f"{name_of(url)} does not take or give the rows ({cause(error)})"
            raise RecordUnusable(f"{what}; mend that, then run the same command again") from error
        raise
    finally:
        if connection is not None:
            await _close(connection)


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=5)
    except Exception:
        connection.terminate()


async def _take_up(url: str) -> int:
    """Give the engine of a new record its jobs, which are not copied; what was under way waits again."""
    from churn_radar.store.postgres_driver import PatientDriver
    from churn_radar.work.engine_postgres import PostgresEngine
    from churn_radar.work.sweep import Sweep
    from churn_radar.work.worker import put_back_interrupted

    async with open_record(url, engine_schema=ENGINE) as record, PatientDriver(url).opened() as jobs:
        await record.write(lambda connection: put_back_interrupted(connection, utc_now()))
        return await Sweep(jobs, PostgresEngine(jobs), untouched_for=timedelta()).once()
