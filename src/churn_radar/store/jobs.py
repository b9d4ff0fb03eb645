"""The jobs on Postgres: PgQueuer's tables, under names of ours, and what we ask of them beyond PgQueuer.

PgQueuer keeps a job's dedupe key until the job is gone. Here the key stands for a job that waits: it is taken off
as soon as a worker has picked the job, since whoever changes a row of the record while its step runs needs a new
job to be sure that the change is seen. In the same write the job is marked as begun, so that a worker that gets it a
second time knows that another one did not end it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.models import Job
from pgqueuer.ports.driver import Driver
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.store.schema import SchemaState

# Longer than any job has been without a heartbeat: nothing is handed over.
NEVER = timedelta(days=365)
BEGUN = "begun"
HELD_FOR = timedelta(minutes=1)
# "churn" as a number: one replica at a time tidies up.
_TIDY_LOCK = 0x636875726E


class _Names(DBSettings):
    """PgQueuer's settings without its environment variables: another program's must not rename our tables."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


# The log tables are only read by people, and not worth a sync to disk each.
NAMES = _Names(prefix="churn_radar_", durability=Durability.balanced)
_QUEUE = NAMES.queue_table

_BEGIN = f"""UPDATE {_QUEUE} SET dedupe_key = NULL, headers = '{{"{BEGUN}": true}}' WHERE id = ANY($1::bigint[])"""  # noqa: S608
# What waits for a later moment and is wanted sooner now; the insert that follows finds it by its key.
_BRING_FORWARD = f"""
UPDATE {_QUEUE} AS job SET execute_after = now() + wanted.delay, updated = now()
FROM UNNEST($1::text[], $2::interval[]) AS wanted(key, delay)
WHERE job.dedupe_key = wanted.key AND job.status = 'queued' AND job.execute_after > now() + wanted.delay
"""  # noqa: S608
_BACKLOG = f"SELECT entrypoint, count(*) AS jobs FROM {_QUEUE} GROUP BY entrypoint"  # noqa: S608
# PgQueuer asks each time it has nothing to do when the next job that is put off is due, over all entry points at once;
# of its own indexes none has them in that order.
_NEXT_DUE_INDEX = f"{_QUEUE}_next_due_idx"
_CREATE_NEXT_DUE_INDEX = (
    f"CREATE INDEX IF NOT EXISTS {_NEXT_DUE_INDEX} ON {_QUEUE} (execute_after) WHERE status = 'queued'"
)
_RELEASE_HELD = f"""
UPDATE {_QUEUE} SET status = 'queued', execute_after = now(), updated = now(), queue_manager_id = NULL
WHERE status = 'failed' AND updated < now() - $1::interval
"""  # noqa: S608


class JobQueries(Queries):
    """PgQueuer's queries on our tables.

    `hands_over` tells whether jobs of silent workers may be taken now. `gives_way` is awaited before jobs are looked
    for; while it answers True they are taken one by one.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(
            driver,
            qbe=QueryBuilderEnvironment(NAMES),
            qbq=QueryQueueBuilder(NAMES),
            qbs=QuerySchedulerBuilder(NAMES),
        )
        self.hands_over: Callable[[], bool] = lambda: True
        self.gives_way: Callable[[], Awaitable[bool]] | None = None

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        """Pick jobs, and mark them as begun. Should that fail they are neither: another worker gets them later."""
        one_by_one = self.gives_way is not None and await self.gives_way()
        jobs = await super().dequeue(
            1 if one_by_one else batch_size,
            entrypoints,
            queue_manager_id,
            global_concurrency_limit,
            heartbeat_timeout if self.hands_over() else NEVER,
        )
        fresh = [job.id for job in jobs if not was_begun(job)]
        if fresh:
            # Waits for whoever is about to commit a change for one of these jobs: the step then sees that change.
            await self.driver.execute(_BEGIN, fresh)
        return jobs

    async def add(
        self,
        names: list[str],
        payloads: list[bytes | None],
        priorities: list[int],
        delays: list[timedelta | None],
        keys: list[str | None],
    ) -> None:
        """Add jobs. One that waits already under its key is kept: with the higher priority, at the earlier moment."""
        if keyed := [at for at, key in enumerate(keys) if key is not None]:
            await self.driver.execute(
                _BRING_FORWARD, [keys[at] for at in keyed], [delays[at] or timedelta() for at in keyed]
            )
        await self.enqueue(names, payloads, priorities, delays, keys, on_conflict="update_priority")

    async def backlog(self) -> Mapping[str, int]:
        """How many jobs wait or run, by entry point."""
        return {str(row["entrypoint"]): int(str(row["jobs"])) for row in await self.driver.fetch(_BACKLOG)}


def jobs_of_new(step: str, *, most: int) -> str:
    """Part of the statement that stores the door's signals: a job of `step` for each `most` of what it `stored`.

    The same job as `JobQueries.add` makes, without another way to the server and back. PgQueuer's log, which is emptied
    every minute, does not hear of it.
    """
    return f"""
    INSERT INTO {_QUEUE} (priority, entrypoint, payload, dedupe_key, status)
    SELECT 0, '{step}', convert_to(string_agg(seq::text, ',' ORDER BY seq), 'UTF8'),
        CASE WHEN count(*) = 1 THEN '{step}:' || min(seq) END, 'queued'
    FROM (SELECT seq, (row_number() OVER (ORDER BY seq) - 1) / {most} AS bundle FROM stored WHERE is_signal) AS due
    GROUP BY bundle
    """  # noqa: S608  no value in it


def was_begun(job: Job) -> bool:
    """Whether a worker had picked this job before, and did not end it."""
    return bool(job.headers and job.headers.get(BEGUN))


async def inside(connection: AsyncConnection | asyncpg.Connection[Any]) -> JobQueries:
    """The queries on the caller's connection: what they add is committed with the caller's transaction, or not at all.

    Of SQLAlchemy's connection it is the driver's own that is used, once its transaction has begun: SQLAlchemy begins
    it with its first statement.
    """
    if not isinstance(connection, AsyncConnection):
        return JobQueries(AsyncpgDriver(connection))
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None  # noqa: S101  the adapter always has one
    if not raw.is_in_transaction():
        await connection.execute(text("SELECT 1"))
    return JobQueries(AsyncpgDriver(raw))


async def tidy(driver: PatientDriver) -> bool:
    """Empty PgQueuer's log, and let go what it holds as failed; False when another replica is at it.

    Raises what the driver does.
    """
    async with driver.transaction() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _TIDY_LOCK):
            return False
        await connection.execute(_RELEASE_HELD, HELD_FOR)
        # A backup that reads the table keeps it locked for long: whoever writes must not queue up behind this.
        await connection.execute("SET LOCAL lock_timeout = '200ms'")
        await connection.execute(f"TRUNCATE {NAMES.queue_table_log}, {NAMES.statistics_table}")
    return True


async def engine_schema_state(connection: asyncpg.Connection[Any]) -> SchemaState:
    """How PgQueuer's tables, and our index on them, compare with the installed release: empty, older or current."""
    queries = JobQueries(AsyncpgDriver(connection))
    if not await queries.schema_is_installed():
        return SchemaState.EMPTY
    if (await queries.plan_upgrade()).statements:
        return SchemaState.OLDER
    ours = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", _NEXT_DUE_INDEX)
    return SchemaState.CURRENT if ours else SchemaState.OLDER


async def engine_is_due(connection: asyncpg.Connection[Any]) -> bool:
    """Whether `install_engine` would change anything."""
    return await engine_schema_state(connection) is not SchemaState.CURRENT


async def install_engine(connection: asyncpg.Connection[Any]) -> None:
    """Create PgQueuer's tables or bring them up to date. Doing it twice does nothing.

    The creation is one script, fit for the caller's transaction. An upgrade of an older release's tables may hold
    statements that have to be committed one by one: call it outside a transaction then (see `engine_schema_state`).
    """
    queries = JobQueries(AsyncpgDriver(connection))
    match await engine_schema_state(connection):
        case SchemaState.EMPTY:
            await queries.install()
            await queries.optimize_autovacuum()
        case SchemaState.OLDER:
            await queries.apply_upgrade()
        case _:
            return
    await connection.execute(_CREATE_NEXT_DUE_INDEX)
