"""A database of its own on the real PostgreSQL, with the tables of the jobs and of the shared limits."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from churn_radar.store.jobs import install_engine
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.store.shared_tables import shared_metadata
from churn_radar.store.tables import metadata

SERVER = os.environ.get("CHURN_RADAR_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
REQUIRED = bool(os.environ.get("CHURN_RADAR_TESTS_REQUIRE_SERVERS"))
UNREACHABLE = (OSError, TimeoutError, asyncpg.PostgresError)


async def _on_server(statement: str) -> None:
    connection = await asyncpg.connect(SERVER, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of an empty database, dropped afterwards. Skips the test when no server answers."""
    name = f"churn_radar_test_{secrets.token_hex(6)}"
    try:
        asyncio.run(_on_server(f"CREATE DATABASE {name}"))
    except UNREACHABLE as error:
        told = f"no PostgreSQL at CHURN_RADAR_TEST_POSTGRES_URL ({type(error).__name__})"
        if REQUIRED:
            pytest.fail(told)
        pytest.skip(told)
    try:
        yield make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    finally:
        asyncio.run(_on_server(f"DROP DATABASE {name} WITH (FORCE)"))


async def make_tables(url: str) -> None:
    """The record's tables, the jobs' and those of the shared limits."""
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            await connection.run_sync(shared_metadata.create_all)
    finally:
        await engine.dispose()
    raw = await asyncpg.connect(url)
    try:
        await install_engine(raw)
    finally:
        await raw.close()


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
