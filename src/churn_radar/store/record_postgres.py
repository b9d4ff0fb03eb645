"""The record in a Postgres database, which any number of processes may share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from churn_radar.store.arrivals import Accepted
from churn_radar.store.dialect import Held
from churn_radar.store.line_postgres import CLOSE_SECONDS, DoorLine
from churn_radar.store.postgres import connect, make_engine, unavailable
from churn_radar.store.record import Record
from churn_radar.store.schema_postgres import EngineSchema, require_current
from churn_radar.store.transactions import Transactions
from churn_radar.store.writer import GroupWriter


@asynccontextmanager
async def open_postgres(
    database_url: str,
    *,
    on_accepted: Callable[[Sequence[Accepted]], None],
    jobs_of_new: str | None,
    commit_timeout_seconds: float,
    max_waiting: int,
    connections: int,
    engine_schema: EngineSchema | None,
    schema_is_current: bool,
) -> AsyncIterator[Record]:
    """Open the record for as long as the context lasts, with at most `connections` connections.

    `jobs_of_new` is what the statement that stores the door's signals does with them (see `store.jobs`).

    Raises RecordUnusable when the database cannot be reached or its schema is not that of this release.
    """
    if not schema_is_current:
        await require_current(database_url, engine_schema)
    # One carries the door's rows, which wait for nobody; the rest is for work and for reading.
    for_work = max(1, (connections - 1) // 2)
    door = DoorLine(database_url, jobs_of_new)
    work = make_engine(database_url, size=for_work)
    reading = make_engine(database_url, size=max(1, connections - 1 - for_work), reading=True)
    transactions = Transactions(door, work)
    rows = GroupWriter(
        transactions.insert,
        on_committed=on_accepted,
        timeout_seconds=commit_timeout_seconds,
        max_waiting=max_waiting,
    )
    rows.start()
    try:
        yield Record(
            reading,
            rows,
            write=transactions.write,
            check=transactions.check,
            reading=unavailable,
            engines=[engine.sync_engine for engine in (reading, work)],
            alone=partial(_alone, database_url),
        )
    finally:
        await rows.stop()
        await transactions.close()
        await door.close()
        for engine in (work, reading):
            await engine.dispose()


@asynccontextmanager
async def _alone(database_url: str, held: Held, wait: bool) -> AsyncIterator[bool]:
    """Hold this by a connection of its own: what ends the connection lets it go, whatever becomes of the process."""
    with unavailable("cannot be held"):
        connection = await connect(database_url)
    try:
        with unavailable("cannot be held"):
            if wait:
                await connection.execute("SELECT pg_advisory_lock($1, 0)", held)
                ours = True
            else:
                ours = await connection.fetchval("SELECT pg_try_advisory_lock($1, 0)", held)
        yield ours
    finally:
        with suppress(Exception):
            await connection.close(timeout=CLOSE_SECONDS)
