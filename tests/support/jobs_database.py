"""What the tests of the jobs and of the shared limits do with their database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from churn_radar.store.postgres_driver import PatientDriver


async def empty_tables(url: str) -> None:
    """What one test left is not there for the next."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        await connection.execute(f"TRUNCATE {', '.join(row['tablename'] for row in tables)} RESTART IDENTITY CASCADE")
    finally:
        await connection.close()


@asynccontextmanager
async def connected(url: str, *, size: int = 4) -> AsyncIterator[PatientDriver]:
    """A driver that is open for as long as the context lasts."""
    async with PatientDriver(url, size=size).opened() as driver:
        yield driver


async def cut_all_connections(url: str) -> int:
    """Have the server end every connection to the database but this one; returns how many that were."""
    connection = await asyncpg.connect(url)
    try:
        ended = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(ended)
    finally:
        await connection.close()
