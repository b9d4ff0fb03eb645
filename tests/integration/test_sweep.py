from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from churn_radar.store.jobs import NAMES
from churn_radar.store.postgres_driver import PatientDriver
from churn_radar.store.tables import to_micros
from churn_radar.work.attempt import unpack
from churn_radar.work.engine_postgres import PostgresEngine
from churn_radar.work.sweep import Sweep
from churn_radar.work.tasks import Outcome, Step, Task

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LONG_AGO = NOON - timedelta(hours=1)


async def add_signal(
    driver: PatientDriver,
    seq: int,
    status: str,
    *,
    priority: int = 0,
    due_at: datetime | None = None,
    updated_at: datetime = LONG_AGO,
) -> None:
    await driver.execute(
        "INSERT INTO signals"
        " (seq, signal_id, event_key, received_at, source, forced, status, priority, due_at, updated_at)"
        " VALUES ($1, $2, $2, $3, 'webhook', false, $4, $5, $6, $7)",
        seq,
        f"sig_{seq}",
        to_micros(LONG_AGO),
        status,
        priority,
        None if due_at is None else to_micros(due_at),
        to_micros(updated_at),
    )


async def jobs(driver: PatientDriver) -> list[tuple[str, list[int], int, int]]:
    """Step, rows, priority and delay in whole seconds of each job, the dearest first."""
    rows: list[dict[str, Any]] = await driver.fetch(
        "SELECT entrypoint, payload, priority, round(EXTRACT(epoch FROM execute_after - updated))::int AS delay"  # noqa: S608
        f" FROM {NAMES.queue_table} ORDER BY priority DESC, id"
    )
    return [(row["entrypoint"], unpack(row["payload"]), row["priority"], row["delay"]) for row in rows]


def sweep_of(driver: PatientDriver) -> tuple[PostgresEngine, Sweep]:
    engine = PostgresEngine(driver)
    return engine, Sweep(driver, engine, now=lambda: NOON)


async def test_work_that_no_job_stands_for_is_taken_up_dearest_first(driver: PatientDriver) -> None:
    await add_signal(driver, 1, "received")
    await add_signal(driver, 2, "waiting", priority=50)
    await add_signal(driver, 3, "waiting", priority=900, due_at=NOON + timedelta(seconds=90))
    await add_signal(driver, 4, "briefed")
    _, sweep = sweep_of(driver)

    assert await sweep.once() == 3
    assert await jobs(driver) == [("research", [3], 900, 90), ("research", [2], 50, 0), ("triage", [1], 0, 0)]
    assert await sweep.once() == 0


async def test_work_that_a_job_stands_for_is_left_alone_also_within_a_batch(driver: PatientDriver) -> None:
    for seq in (1, 2, 3):
        await add_signal(driver, seq, "received")
    engine, sweep = sweep_of(driver)
    engine.register_batches(Step.TRIAGE, _never, concurrency=1, most=10)
    await engine.enqueue([Task(Step.TRIAGE, seq) for seq in (1, 3)])

    assert await sweep.once() == 1
    assert [rows for _, rows, _, _ in await jobs(driver)] == [[1, 3], [2]]


async def _never(seqs: Sequence[int]) -> Sequence[Outcome]:
    raise AssertionError


async def test_what_has_just_been_touched_gets_its_job_from_whoever_touched_it(driver: PatientDriver) -> None:
    await add_signal(driver, 1, "waiting", updated_at=NOON - timedelta(seconds=5))
    _, sweep = sweep_of(driver)

    assert await sweep.once() == 0


async def test_research_whose_job_is_lost_is_put_back_first(driver: PatientDriver) -> None:
    await add_signal(driver, 1, "researching", priority=7)
    engine, sweep = sweep_of(driver)
    mended: list[tuple[Step, list[int]]] = []

    async def mend(step: Step, seqs: Sequence[int]) -> None:
        mended.append((step, list(seqs)))

    engine.on_handed_over = mend

    assert await sweep.once() == 1
    assert mended == [(Step.RESEARCH, [1])]


async def test_a_pending_delivery_is_taken_up(driver: PatientDriver) -> None:
    async with driver.transaction() as connection:
        # No brief, no customer: only the delivery matters.
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "INSERT INTO deliveries (seq, brief_seq, sink, status, attempts, updated_at)"
            " VALUES (5, 1, 'jsonl', 'pending', 0, $1)",
            to_micros(LONG_AGO),
        )
    _, sweep = sweep_of(driver)

    assert await sweep.once() == 1
    assert await jobs(driver) == [("deliver", [5], 0, 0)]


async def test_one_replica_at_a_time_looks(driver: PatientDriver) -> None:
    await add_signal(driver, 1, "received")
    _, sweep = sweep_of(driver)
    async with driver.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x7377656570)
        assert await sweep.once() == 0
    assert await sweep.once() == 1
