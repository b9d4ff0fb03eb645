"""The connections that the work on Postgres uses: set up like all others, and thrown away when they are of no use."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from churn_radar.store.postgres_driver import PatientDriver
from tests.support.jobs_database import connected
from tests.support.work import until

SET_UP = ["jit", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit"]


async def set_up(driver: PatientDriver) -> dict[str, object]:
    rows = await driver.fetch("SELECT name, current_setting(name) AS value FROM unnest($1::text[]) AS name", SET_UP)
    return {str(row["name"]): row["value"] for row in rows}


async def test_a_connection_is_set_up_as_the_records_and_stays_so_in_the_pool(database: str) -> None:
    wanted = {"jit": "off", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "1min"}
    async with connected(database, size=1) as driver:
        pids = set()
        for _ in range(3):
            assert await set_up(driver) == {**wanted, "synchronous_commit": "on"}
            pids.add((await driver.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"])
    assert len(pids) == 1


async def test_nothing_is_asked_for_as_a_connection_starts_since_a_pooler_would_refuse_it(database: str) -> None:
    at_start = "SELECT name, reset_val AS value FROM pg_settings WHERE name = ANY($1::text[]) ORDER BY name"
    plain = await asyncpg.connect(database)
    untouched = [dict(row) for row in await plain.fetch(at_start, SET_UP)]
    await plain.close()
    async with connected(database, size=1) as driver:
        assert await driver.fetch(at_start, SET_UP) == untouched


async def test_a_server_that_only_reads_is_left_for_the_next_connection(database: str) -> None:
    async with connected(database, size=1) as driver:
        await driver.execute("SET default_transaction_read_only = on")
        async with asyncio.timeout(10):
            assert await driver.execute("CREATE TABLE of_the_driver (seq int)") == "CREATE TABLE"
        await driver.execute("DROP TABLE of_the_driver")


async def test_a_lock_that_another_holds_is_waited_for_on_the_same_connection(database: str) -> None:
    other = await asyncpg.connect(database)
    async with connected(database, size=1) as driver:
        await driver.execute("SET lock_timeout = '50ms'")
        [before] = await driver.fetch("SELECT pg_backend_pid() AS pid")
        await other.execute("CREATE TABLE of_the_driver (seq int)")
        transaction = other.transaction()
        await transaction.start()
        await other.execute("LOCK TABLE of_the_driver")
        waiting = asyncio.create_task(driver.execute("DELETE FROM of_the_driver"))

        async def refused() -> bool:
            return driver.trouble is not None

        await until(refused, "the lock's time to be over")
        await transaction.rollback()
        assert await waiting == "DELETE 0"
        assert driver.trouble is None
        assert await driver.fetch("SELECT pg_backend_pid() AS pid") == [before]
    await other.execute("DROP TABLE of_the_driver")
    await other.close()


async def test_what_will_never_go_through_is_not_tried_for_ever(database: str) -> None:
    async with connected(database) as driver, asyncio.timeout(10):
        with pytest.raises(asyncpg.DataError):
            await driver.fetch("SELECT $1::int", "no number")
        with pytest.raises(asyncpg.UndefinedTableError):
            await driver.fetch("SELECT 1 FROM nowhere")
