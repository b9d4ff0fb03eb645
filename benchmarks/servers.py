"""Servers that a benchmark needs beside ours: a database of its own on a Postgres, a Redis of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from tests.support.postgres import SERVER_URL, Scratch
from tests.support.servers import own_redis

from churn_radar.buffer.protocol import BufferOptions

__all__ = ["NotHere", "Scratch", "database", "redis", "until_drained", "until_triaged"]


_UNTRIAGED = "SELECT 1 FROM signals WHERE status = 'received' LIMIT 1"


class NotHere(Exception):
    """A server that the benchmark needs is not on this machine; says which, and how to name one."""


@contextmanager
def database(*, migrated: bool = True) -> Iterator[Scratch]:
    """A database for as long as the block runs; raises NotHere where no server answers."""
    made = Scratch()
    try:
        made.create(migrated=migrated)
    except (OSError, asyncpg.PostgresError):
        raise NotHere(f"no Postgres answers at {SERVER_URL}; name one in CHURN_RADAR_TEST_POSTGRES_URL") from None
    try:
        yield made
    finally:
        made.drop()


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[str]:
    """The URL of a Redis of this benchmark's own, which syncs before it answers; raises NotHere without one."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with suppress(pytest.skip.Exception):
        async with own_redis(folder) as server:
            yield server.url
            return
    raise NotHere("no redis-server on the PATH")


async def until_triaged(record: Scratch, *, most_seconds: float) -> None:
    """Wait until nothing in the record waits for triage; raises TimeoutError when something always does."""
    async with asyncio.timeout(most_seconds):
        while True:
            if not await asyncio.to_thread(record.run, _UNTRIAGED):
                return
            await asyncio.sleep(0.1)


async def until_drained(url: str, *, most_seconds: float) -> None:
    """Wait until the buffer on a Redis is empty: all of it is in the record; raises TimeoutError when it never is."""
    async with Redis.from_url(url) as client, asyncio.timeout(most_seconds):
        while True:
            if not await client.xlen(BufferOptions().stream):
                return
            await asyncio.sleep(0.1)
