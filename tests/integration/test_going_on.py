"""What follows from a step: on Postgres its job is in the commit of the step itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.jobs import NAMES
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.store.record import open_record
from churn_radar.work.engine_postgres import PostgresEngine
from churn_radar.work.steps import Floor
from churn_radar.work.tasks import Step, Task
from tests.support.postgres import Scratch

NEXT = Task(Step.RESEARCH, 7, priority=3)


async def meet(connection: AsyncConnection) -> int:
    """The work of a step."""
    await connection.execute(text("INSERT INTO customers (attributes, seen_at) VALUES ('{}', 1)"))
    return 7


@asynccontextmanager
async def shop_floor(postgres: Scratch) -> AsyncIterator[Floor]:
    """A floor that hands on in the step's transaction, and in no other way."""

    async def never(tasks: Sequence[Task]) -> None:
        raise AssertionError("handed on after the commit: a kill in between would leave the work lying")

    async with open_record(postgres.url) as record, PatientDriver(postgres.url).opened() as driver:
        yield Floor(record, never, [], enqueue_within=PostgresEngine(driver).enqueue_within)


async def test_the_job_that_follows_is_committed_with_its_step(postgres: Scratch) -> None:
    async with shop_floor(postgres) as floor:
        assert await floor.write_and_go_on(meet, lambda seq: [NEXT]) == 7
    assert postgres.rows(f"SELECT entrypoint, payload, priority FROM {NAMES.queue_table}") == [("research", b"7", 3)]  # noqa: S608
    assert postgres.run("SELECT count(*) FROM customers") == 1


async def test_neither_is_kept_without_the_other(postgres: Scratch) -> None:
    def spoilt(seq: int) -> Sequence[Task]:
        raise ZeroDivisionError

    async with shop_floor(postgres) as floor:
        with pytest.raises(ZeroDivisionError):
            await floor.write_and_go_on(meet, spoilt)
    assert postgres.run(f"SELECT count(*) FROM {NAMES.queue_table}") == 0  # noqa: S608
    assert postgres.run("SELECT count(*) FROM customers") == 0
