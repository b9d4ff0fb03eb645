"""`churn-radar migrate`: the record's schema, whichever database holds it."""

from __future__ import annotations

from typing import Any

from churn_radar.store.postgres import is_postgres, shown
from churn_radar.store.record import lock_record
from churn_radar.store.schema import SchemaState, inspect_record, sqlite_path, upgrade_record
from churn_radar.store.schema_postgres import EngineSchema, inspect_postgres, migrate_postgres


# The driver for Postgres is loaded only where it is used.
async def _install(connection: Any) -> None:
    from churn_radar.store.jobs import install_engine

    await install_engine(connection)


async def _is_due(connection: Any) -> bool:
    from churn_radar.store.jobs import engine_is_due

    return await engine_is_due(connection)


# What the engine keeps in the record's database is created and upgraded with it.
ENGINE = EngineSchema(_install, _is_due)


def name_of(database_url: str) -> str:
    """The record as it may be printed."""
    return shown(database_url) if is_postgres(database_url) else str(sqlite_path(database_url))


async def inspect(database_url: str) -> SchemaState:
    """How the schema stands; nothing is altered. Raises RecordUnusable."""
    if is_postgres(database_url):
        return await inspect_postgres(database_url, ENGINE)
    return inspect_record(sqlite_path(database_url))


async def upgrade(database_url: str) -> SchemaState:
    """Create the schema, or bring it up to date; returns how it stood. Raises RecordUnusable or RecordLocked."""
    if is_postgres(database_url):
        return await migrate_postgres(database_url, ENGINE)
    path = sqlite_path(database_url)
    if not path.parent.is_dir():
        inspect_record(path)
    with lock_record(path):
        return upgrade_record(path)
