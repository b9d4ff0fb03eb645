"""The record's schema on Postgres: is it ours, is it current, bring it up to date.

Only `churn-radar migrate` alters it, one process at a time and one revision a transaction. A `serve` or `worker` only
looks, and does not start on a schema of another release: two releases beside each other are a decision then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from alembic import command
from sqlalchemy import Connection, NullPool, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from churn_radar.errors import RecordAway, RecordUnusable
from churn_radar.store.dialect import Held, driver_connection, hold_beyond
from churn_radar.store.postgres import OLDEST_VERSION, cause, connect, driver, is_passing, shown, sqlstate
from churn_radar.store.schema import (
    COPY_TABLE,
    HALF_COPIED,
    VERSION_TABLE,
    SchemaState,
    alembic_config,
    compare_version,
)
from churn_radar.store.tables import metadata, signals

MIGRATE = "churn-radar migrate"
# Migrations wait for whatever reads or writes a table, and everything else waits behind them: not for longer than this.
TABLE_WAIT = "5s"


async def _nothing(connection: Any) -> None:
    return None


async def _never(connection: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class EngineSchema:
    """What else lives in the database and is created and upgraded with the record: the engine's tables.

    Both are called with the driver's connection, inside a transaction: `install` brings them up to date however they
    stand, `is_due` tells whether that would change anything.
    """

    install: Callable[[Any], Awaitable[None]] = _nothing
    is_due: Callable[[Any], Awaitable[bool]] = _never


async def inspect_postgres(database_url: str, engine: EngineSchema | None = None) -> SchemaState:
    """Read the schema's state without altering anything.

    Raises RecordAway when the database cannot be reached, RecordUnusable when it cannot hold a record.
    """
    async with _connected(database_url) as connection:
        return await _state(connection, engine or EngineSchema())


async def migrate_postgres(database_url: str, engine: EngineSchema | None = None) -> SchemaState:
    """Create the record or bring it to this release's schema; returns the state it was found in.

    Whoever comes second waits, and finds nothing to do. Raises RecordUnusable for a schema that is newer than this
    release or not ours, which is left as it is, and when a table is too busy to be altered. Each revision is committed
    by itself, so that what it locks is free before the next one; whatever breaks off between two of them, the next call
    goes on from there.
    """
    wanted = engine or EngineSchema()
    # An index on millions of rows takes minutes, and so long the others wait for their turn.
    async with _connected(database_url, answer_seconds=None, lock_timeout="0") as connection:
        await hold_beyond(connection, Held.SCHEMA)
        state = await _state(connection, wanted)
        _refuse_foreign(state, database_url)
        await connection.exec_driver_sql(f"SET lock_timeout = '{TABLE_WAIT}'")
        # Alembic commits nothing inside a transaction of ours.
        await connection.commit()
        await connection.run_sync(_upgrade)
        await wanted.install(await driver_connection(connection))
        await connection.commit()
    return state


async def require_current(database_url: str, engine: EngineSchema | None = None) -> None:
    """Raises RecordUnusable, with the command to run, unless the schema is that of this release.

    Raises RecordAway when nobody is there to ask.
    """
    state = await inspect_postgres(database_url, engine)
    _refuse_foreign(state, database_url)
    if state is SchemaState.EMPTY:
        raise RecordUnusable(f"there is no record yet at {shown(database_url)}; run `{MIGRATE}`")
    if state is SchemaState.OLDER:
        raise RecordUnusable(f"the record at {shown(database_url)} is of an older release; run `{MIGRATE}`")


def _refuse_foreign(state: SchemaState, database_url: str) -> None:
    if state is SchemaState.NEWER:
        raise RecordUnusable(
            f"the record at {shown(database_url)} was migrated by a newer churn_radar; run that release, or a newer one"
        )
    if state is SchemaState.FOREIGN:
        raise RecordUnusable(f"{shown(database_url)} holds tables of another program under our names; choose another")
    if state is SchemaState.COPYING:
        raise RecordUnusable(f"{shown(database_url)} {HALF_COPIED}")


@asynccontextmanager
async def _connected(database_url: str, **told: Any) -> AsyncIterator[AsyncConnection]:
    driver()

    async def open_one(**_: Any) -> Any:
        return await connect(database_url, **told)

    pool = create_async_engine(
        "postgresql+asyncpg://", connect_args={"async_creator_fn": open_one}, poolclass=NullPool, hide_parameters=True
    )
    try:
        async with pool.connect() as connection:
            await _require_fit(connection, database_url)
            yield connection
    except Exception as error:
        if isinstance(error, DBAPIError | driver().PostgresError | ValueError) or is_passing(error):
            kind = RecordAway if is_passing(error) and not sqlstate(error).startswith("55") else RecordUnusable
            raise kind(_advice(error, shown(database_url))) from error
        raise
    finally:
        await pool.dispose()


def _advice(error: Exception, where: str) -> str:
    """What went wrong, and what to do about it."""
    match sqlstate(error)[:2]:
        case "28":
            return f"{where} refuses us ({cause(error)}); mend user or password in CHURN_RADAR_DATABASE_URL"
        case "3D":
            return f"{where} does not exist ({cause(error)}); create the database"
        case "42":
            return f"{where} does not let us do that ({cause(error)}); give the user the rights to create tables"
        case "55":
            return f"the tables at {where} are in use ({cause(error)}); run `{MIGRATE}` again when less is going on"
    return f"{where} cannot be used now ({cause(error)}); start it, or mend CHURN_RADAR_DATABASE_URL"


async def _require_fit(connection: AsyncConnection, database_url: str) -> None:
    about = await connection.exec_driver_sql(
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding')"
    )
    version, encoding = tuple(about.one())
    if version < OLDEST_VERSION:
        raise RecordUnusable(f"{shown(database_url)} runs on Postgres {version}; {OLDEST_VERSION} or newer is needed")
    if encoding != "UTF8":
        raise RecordUnusable(f"{shown(database_url)} is encoded in {encoding}; create it with ENCODING 'UTF8'")


async def _state(connection: AsyncConnection, engine: EngineSchema) -> SchemaState:
    state = await connection.run_sync(_state_of_tables)
    if state is SchemaState.CURRENT and await engine.is_due(await driver_connection(connection)):
        return SchemaState.OLDER
    return state


def _state_of_tables(connection: Connection) -> SchemaState:
    """As on SQLite; but a database may well hold the tables of other programs, as long as they are named otherwise."""
    tables = set(inspect(connection).get_table_names())
    ours = {*metadata.tables, VERSION_TABLE} & tables
    if not ours:
        return SchemaState.EMPTY
    if not {VERSION_TABLE, signals.name} <= ours:
        return SchemaState.FOREIGN
    return SchemaState.COPYING if COPY_TABLE in tables else compare_version(connection)


def _upgrade(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
