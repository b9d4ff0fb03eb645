from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import resources
from typing import Any

import asyncpg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from churn_radar.store.jobs import NAMES, engine_schema_state, install_engine, tidy
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.store.schema import SchemaState
from churn_radar.store.shared_tables import shared_metadata
from churn_radar.work.engine_postgres import PostgresEngine
from churn_radar.work.tasks import Again, Done, Outcome, Step, Task
from tests.support.jobs_database import connected, cut_all_connections
from tests.support.postgres import scratch
from tests.support.work import until

GRACE = timedelta(seconds=5)
SHORT = timedelta(seconds=0.6)
QUEUE, LOG = NAMES.queue_table, NAMES.queue_table_log


@asynccontextmanager
async def running(engine: PostgresEngine, grace: timedelta = GRACE) -> AsyncIterator[PostgresEngine]:
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop(grace)


async def seen(done: list[int], count: int, *, seconds: float = 40) -> list[int]:
    async def enough() -> bool:
        return len(done) >= count

    await until(enough, f"{count} jobs (there are {len(done)})", seconds=seconds)
    return done


def noting(engine: PostgresEngine, step: Step = Step.RESEARCH, *, concurrency: int = 1) -> list[int]:
    """The rows that a step was done for, in order."""
    done: list[int] = []

    async def handler(seq: int) -> Outcome:
        done.append(seq)
        return Done()

    engine.register(step, handler, concurrency=concurrency)
    return done


async def jobs(driver: PatientDriver) -> int:
    [row] = await driver.fetch(f"SELECT count(*) AS count FROM {QUEUE}")  # noqa: S608
    return int(str(row["count"]))


async def test_the_dearest_goes_first_and_the_oldest_among_equals(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    done = noting(engine)
    await engine.enqueue([Task(Step.RESEARCH, seq, priority) for seq, priority in ((1, 5), (2, 900), (3, 5), (4, 70))])

    async with running(engine):
        assert await seen(done, 4) == [2, 4, 1, 3]


async def test_a_delayed_task_waits_its_delay_while_others_go_on(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    done = noting(engine)
    began = time.monotonic()
    await engine.enqueue([Task(Step.RESEARCH, 1, 99, delay=timedelta(seconds=0.4)), Task(Step.RESEARCH, 2)])

    async with running(engine):
        assert await seen(done, 2) == [2, 1]

    assert time.monotonic() - began >= 0.4


async def test_a_step_that_asks_for_a_later_attempt_gets_it_after_its_delay(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    attempts: list[float] = []

    async def handler(seq: int) -> Outcome:
        attempts.append(time.monotonic())
        return Again(timedelta(seconds=0.3)) if len(attempts) == 1 else Done()

    engine.register(Step.DELIVER, handler, concurrency=2)
    async with running(engine):
        await engine.enqueue([Task(Step.DELIVER, 7, 3)])

        async def twice() -> bool:
            return len(attempts) == 2

        await until(twice, "the second attempt")

    assert attempts[1] - attempts[0] >= 0.3


async def test_of_a_batch_only_the_rows_that_ask_for_it_are_tried_again(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    calls: list[Sequence[int]] = []

    async def handler(seqs: Sequence[int]) -> Sequence[Outcome]:
        calls.append(list(seqs))
        return [Again(timedelta(seconds=0.05)) if seq == 2 and len(calls) == 1 else Done() for seq in seqs]

    engine.register_batches(Step.TRIAGE, handler, concurrency=2, most=3)
    await engine.enqueue([Task(Step.TRIAGE, seq) for seq in (1, 2, 3)])

    async with running(engine):

        async def both() -> bool:
            return len(calls) == 2

        await until(both, "the second call")

    assert calls == [[1, 2, 3], [2]]


async def test_a_task_that_waits_already_is_not_added_again(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    done = noting(engine)
    await engine.enqueue([Task(Step.RESEARCH, 1, 5), Task(Step.RESEARCH, 2, 7), Task(Step.RESEARCH, 1, 6)])
    await engine.enqueue([Task(Step.RESEARCH, 1, 9)])

    assert await jobs(driver) == 2
    async with running(engine):
        assert await seen(done, 2) == [1, 2]
        await asyncio.sleep(0.3)
    assert done == [1, 2]


async def test_a_task_that_waits_for_later_and_is_wanted_now_comes_now(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    done = noting(engine)
    await engine.enqueue([Task(Step.RESEARCH, 1, 5, timedelta(hours=1))])

    async with running(engine):
        await engine.enqueue([Task(Step.RESEARCH, 1, 5)])

        assert await seen(done, 1, seconds=4) == [1]
    assert await jobs(driver) == 0


async def test_a_task_that_waits_is_not_put_off_by_one_for_later(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    done = noting(engine)
    await engine.enqueue([Task(Step.RESEARCH, 1, 5)])
    await engine.enqueue([Task(Step.RESEARCH, 1, 5, timedelta(hours=1))])

    async with running(engine):
        assert await seen(done, 1, seconds=4) == [1]


async def test_what_is_asked_for_while_its_step_is_under_way_is_done_once_more_after_it(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    done: list[str] = []
    go_on = asyncio.Event()

    async def handler(seq: int) -> Outcome:
        done.append("begun")
        await go_on.wait()
        done.append("ended")
        return Done()

    engine.register(Step.RESEARCH, handler, concurrency=2)
    async with running(engine):
        await engine.enqueue([Task(Step.RESEARCH, 1)])

        async def count(number: int) -> bool:
            return len(done) == number

        await until(lambda: count(1), "the first")
        await engine.enqueue([Task(Step.RESEARCH, 1)])
        await asyncio.sleep(0.3)
        assert done == ["begun"]
        go_on.set()
        await until(lambda: count(4), "the second")

    assert done == ["begun", "ended"] * 2


async def test_work_is_added_with_the_callers_transaction_or_not_at_all(database: str, driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    connection: asyncpg.Connection[Any] = await asyncpg.connect(database)
    try:
        taken_back = connection.transaction()
        await taken_back.start()
        await engine.enqueue_within(connection, [Task(Step.TRIAGE, 1)])
        await taken_back.rollback()
        assert await jobs(driver) == 0

        async with connection.transaction():
            await engine.enqueue_within(connection, [Task(Step.TRIAGE, 2)])
            assert await jobs(driver) == 0
        assert await jobs(driver) == 1
    finally:
        await connection.close()


async def test_a_job_that_is_put_in_at_commit_is_heard_of_at_once(database: str, driver: PatientDriver) -> None:
    engine = PostgresEngine(driver, poll_every=timedelta(seconds=60))
    done = noting(engine, Step.TRIAGE)
    connection: asyncpg.Connection[Any] = await asyncpg.connect(database)
    try:
        async with running(engine):
            await asyncio.sleep(0.5)
            async with connection.transaction():
                await engine.enqueue_within(connection, [Task(Step.TRIAGE, 1)])
            began = time.monotonic()
            await seen(done, 1)
    finally:
        await connection.close()
    assert time.monotonic() - began < 30, "heard of by its notification, not by the poll"


async def test_the_concurrency_of_a_step_counts_over_all_engines(database: str, driver: PatientDriver) -> None:
    under_way: set[int] = set()
    most = 0
    done: list[int] = []

    async def handler(seq: int) -> Outcome:
        nonlocal most
        under_way.add(seq)
        most = max(most, len(under_way))
        await asyncio.sleep(0.02)
        under_way.remove(seq)
        done.append(seq)
        return Done()

    async with connected(database) as other:
        engines = [PostgresEngine(driver), PostgresEngine(other)]
        for engine in engines:
            engine.register(Step.RESEARCH, handler, concurrency=3)
        await engines[0].enqueue([Task(Step.RESEARCH, seq) for seq in range(15)])
        async with running(engines[0]), running(engines[1]):
            await seen(done, 15)

    assert most == 3
    assert sorted(done) == list(range(15))


async def test_a_stop_that_cuts_a_job_off_puts_it_back_for_another_worker(database: str, driver: PatientDriver) -> None:
    begun = asyncio.Event()
    never = asyncio.Event()

    async def stuck(seq: int) -> Outcome:
        begun.set()
        await never.wait()
        return Done()

    mended: list[tuple[Step, Sequence[int]]] = []

    async def mend(step: Step, seqs: Sequence[int]) -> None:
        mended.append((step, list(seqs)))

    first = PostgresEngine(driver)
    first.register(Step.RESEARCH, stuck, concurrency=1)
    async with connected(database) as other:
        second = PostgresEngine(other)
        second.on_handed_over = mend
        done = noting(second)
        async with running(first, timedelta(seconds=0.1)):
            await first.enqueue([Task(Step.RESEARCH, 1)])
            await begun.wait()
        async with running(second):
            assert await seen(done, 1, seconds=4) == [1]
    assert mended == [(Step.RESEARCH, [1])]


async def test_after_all_connections_were_cut_the_work_goes_on(database: str, driver: PatientDriver) -> None:
    engine = PostgresEngine(driver, poll_every=timedelta(seconds=60))
    done = noting(engine, concurrency=5)
    async with running(engine):
        await engine.enqueue([Task(Step.RESEARCH, 1)])
        await seen(done, 1)
        assert await cut_all_connections(database) >= 2
        await engine.enqueue([Task(Step.RESEARCH, 2)])
        await seen(done, 2)
        await asyncio.sleep(0.5)  # the listener is back

        began = time.monotonic()
        await engine.enqueue([Task(Step.RESEARCH, 3)])
        await seen(done, 3)

        assert time.monotonic() - began < 30, "heard of by its notification, not by the poll"
        assert engine.healthy


async def test_a_fault_of_a_step_is_tried_again_later_and_never_ends_the_engine(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)

    async def broken(seq: int) -> Outcome:
        raise ZeroDivisionError

    engine.register(Step.RESEARCH, broken, concurrency=1)
    async with running(engine):
        await engine.enqueue([Task(Step.RESEARCH, 1)])

        async def waits() -> bool:
            later = "SELECT execute_after > now() + interval '50 s' AS later FROM "
            rows = await driver.fetch(later + QUEUE)
            return [row["later"] for row in rows] == [True]

        await until(waits, "the later attempt")
        assert engine.healthy


async def test_the_log_is_emptied_and_a_held_job_goes_on(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    done = noting(engine)
    await engine.enqueue([Task(Step.RESEARCH, 1)])
    await driver.execute(f"UPDATE {QUEUE} SET status = 'failed', updated = now() - interval '2 min'")  # noqa: S608

    assert await tidy(driver)

    [log] = await driver.fetch(f"SELECT count(*) AS count FROM {LOG}")  # noqa: S608
    assert log["count"] == 0
    async with running(engine):
        assert await seen(done, 1, seconds=4) == [1]


async def test_one_replica_at_a_time_tidies_up(driver: PatientDriver) -> None:
    async with driver.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x636875726E)
        assert not await tidy(driver)


async def test_installing_twice_does_nothing_the_second_time(database: str) -> None:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(database)
    try:
        assert await engine_schema_state(connection) is SchemaState.CURRENT
        await install_engine(connection)
        await connection.execute(f"DROP INDEX {QUEUE}_ep_ea_idx")
        assert await engine_schema_state(connection) is SchemaState.OLDER
        await install_engine(connection)
        assert await engine_schema_state(connection) is SchemaState.CURRENT
    finally:
        await connection.close()


_DYING = """
import asyncio, sys
from datetime import timedelta
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.work.tasks import Step, Task
from churn_radar.work.engine_postgres import PostgresEngine

async def main():
    async with PatientDriver(sys.argv[1]).opened() as driver:
        engine = PostgresEngine(driver, heartbeat_timeout=timedelta(seconds=0.6))

        async def stuck(seq):
            print("begun", seq, flush=True)
            await asyncio.Event().wait()

        engine.register(Step.RESEARCH, stuck, concurrency=3)
        engine.start()
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_jobs_of_a_killed_worker_are_handed_over(database: str, driver: PatientDriver) -> None:
    engine = PostgresEngine(driver, heartbeat_timeout=SHORT, poll_every=SHORT)
    done = noting(engine, concurrency=3)
    mended: list[int] = []

    async def mend(step: Step, seqs: Sequence[int]) -> None:
        mended.extend(seqs)

    engine.on_handed_over = mend
    await engine.enqueue([Task(Step.RESEARCH, seq) for seq in range(3)])
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", _DYING, database, stdout=subprocess.PIPE)
    assert dying.stdout is not None
    for _ in range(3):
        assert (await asyncio.wait_for(dying.stdout.readline(), 20)).startswith(b"begun")

    async with running(engine):
        await asyncio.sleep(2 * SHORT.total_seconds())
        assert done == [], "a worker that lives keeps its jobs"
        dying.send_signal(signal.SIGKILL)
        await dying.wait()

        assert sorted(await seen(done, 3, seconds=8)) == [0, 1, 2]
    assert sorted(mended) == [0, 1, 2]


def test_the_migrations_make_the_shared_tables() -> None:
    def compare(connection: Connection) -> list[Any]:
        config = Config()
        config.set_main_option("script_location", str(resources.files("churn_radar.store") / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [change for change in compare_metadata(context, shared_metadata) if "upstream" in str(change)]

    async def migrated(url: str) -> list[Any]:
        engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(compare)
        finally:
            await engine.dispose()

    with scratch(migrated=False) as made:
        url = made.url
        assert asyncio.run(migrated(url)) == []


async def test_a_process_that_only_adds_work_packs_it_as_the_workers_do(driver: PatientDriver) -> None:
    engine = PostgresEngine(driver)
    engine.jobs_of_new(Step.TRIAGE, most=50)
    await engine.enqueue([Task(Step.TRIAGE, seq) for seq in range(120)])

    assert await jobs(driver) == 3
