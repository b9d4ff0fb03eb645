"""What waits for the operator goes on as soon as the trouble has ended, and after a restart; nothing else does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from churn_radar.simulator.mavera import MaveraSimulation
from churn_radar.simulator.people import PEOPLE, Person
from churn_radar.store.jobs import NAMES
from churn_radar.store.tables import Status, signals
from churn_radar.work import resume as room
from churn_radar.work.resume import resume
from churn_radar.work.tasks import Again, Step, Task
from churn_radar.work.troubles import PROBE_DELAYS, WAITS
from tests.support.postgres import Scratch
from tests.support.work import Running, Workshop, logged, payload, service, until, workshop

CUSTOMERS = ("cust_1001", "cust_1002", "cust_1003")


@pytest.fixture
def mavera() -> MaveraSimulation:
    return MaveraSimulation(credits=0)


@pytest.fixture
async def shop(tmp_path: Path, mavera: MaveraSimulation) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path, mavera=mavera, people=list(PEOPLE)) as made:
        yield made


async def held(shop: Workshop) -> list[int]:
    """Three signals that wait for credits: the first by its own failure, the others because of it."""
    seqs = [await shop.arrive(payload(customer)) for customer in CUSTOMERS]
    for seq in seqs:
        await shop.triage(seq)
        assert isinstance(await shop.research(seq), Again)
    shop.enqueued.clear()
    return seqs


async def test_what_waits_tells_so_with_the_cause_whether_it_failed_itself_or_not(shop: Workshop) -> None:
    for seq in await held(shop):
        signal = await shop.signal(seq)
        assert signal.reason is not None
        assert signal.reason.startswith(WAITS)
        assert "402" in signal.reason
        assert (signal.attempts, signal.due_at) == (0, shop.clock() + PROBE_DELAYS[0])


async def test_when_the_trouble_has_ended_all_of_it_is_due_at_once(shop: Workshop) -> None:
    seqs = await held(shop)
    shop.floor.troubles.clear("mavera")

    assert await resume(shop.floor, "mavera") == 3

    assert {task.seq for task in shop.enqueued} == set(seqs)
    for seq in seqs:
        signal = await shop.signal(seq)
        assert (signal.status, signal.due_at, signal.reason) == (Status.WAITING, None, None)
        assert Task(Step.RESEARCH, seq, signal.priority) in shop.enqueued
    assert await resume(shop.floor, "mavera") == 0


async def test_it_goes_on_after_a_page(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PAGE", 2)
    await held(shop)
    shop.floor.troubles.clear("mavera")

    assert await resume(shop.floor, "mavera") == 3


async def test_while_the_trouble_stands_nothing_is_let_go(shop: Workshop) -> None:
    await held(shop)

    assert await resume(shop.floor, "mavera") == 0
    assert shop.enqueued == []


async def test_what_waits_for_another_reason_waits_on(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both of them are put off to the same moment, each a page of its own.
    monkeypatch.setattr(room, "PAGE", 1)
    first, second, _ = await held(shop)
    due = shop.clock() + timedelta(days=7)
    await shop.record.write(
        lambda c: c.execute(
            update(signals).where(signals.c.seq == first).values(reason="waits for the budget", due_at=due)
        )
    )
    await shop.record.write(
        lambda c: c.execute(update(signals).where(signals.c.seq == second).values(reason=None, due_at=due))
    )
    shop.floor.troubles.clear("mavera")

    assert await resume(shop.floor, "mavera") == 1
    assert (await shop.signal(first)).due_at == due
    assert (await shop.signal(second)).due_at == due


async def test_one_services_recovery_is_none_of_the_others(shop: Workshop) -> None:
    await held(shop)
    shop.floor.troubles.clear("mavera")

    assert await resume(shop.floor, "customerio") == 0


async def test_a_signal_about_to_be_put_off_as_the_trouble_ends_is_not_put_off(
    shop: Workshop, mavera: MaveraSimulation
) -> None:
    """Otherwise it would sleep to the next probe, half an hour perhaps, with nobody left to wake it."""
    [_, second, _] = await held(shop)
    await shop.record.write(
        lambda c: c.execute(update(signals).where(signals.c.seq == second).values(reason=None, due_at=None))
    )
    write = shop.record.write

    async def ended_meanwhile(work: Any) -> Any:
        shop.record.write = write  # type: ignore[method-assign]
        mavera.credits = 1000
        shop.floor.troubles.clear("mavera")
        return await write(work)

    shop.record.write = ended_meanwhile  # type: ignore[method-assign]

    await shop.research(second)

    assert (await shop.signal(second)).status is Status.BRIEFED


async def test_a_failure_that_is_written_down_after_the_trouble_has_ended_is_due_at_once(shop: Workshop) -> None:
    seq = await shop.arrive(payload("cust_1001"))
    await shop.triage(seq)
    write = shop.floor.record.write
    calls = 0

    async def slow(work: Any) -> Any:
        nonlocal calls
        calls += 1
        if shop.floor.troubles.current:
            shop.floor.troubles.clear("mavera")
        return await write(work)

    shop.record.write = slow  # type: ignore[method-assign]

    outcome = await shop.research(seq)

    assert calls >= 2
    assert outcome == Again(timedelta(), in_record=True)
    assert (await shop.signal(seq)).due_at == shop.clock()


# -- the whole service


@pytest.fixture
def no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("churn_radar.work.troubles.PROBE_DELAYS", (timedelta(hours=1),))


def few() -> list[Person]:
    return [Person(f"own-{number}", None, None, {"plan_type": "pro", "mrr": "100"}) for number in range(6)]


async def all_held(live: Running) -> list[str]:
    """Six signals that wait for credits for an hour."""
    ids = [await live.post(payload(f"own-{number}")) for number in range(6)]

    async def told() -> bool:
        items = (await live.http.get("/signals", params={"status": "waiting"})).json()["items"]
        return len(items) == 6 and all((item["reason"] or "").startswith(WAITS) for item in items)

    await until(told, "all to wait for the operator")
    return ids


@pytest.mark.usefixtures("no_probes")
async def test_the_first_call_that_goes_through_sets_everything_going_not_only_itself(
    tmp_path: Path, mavera: MaveraSimulation
) -> None:
    with logged(tmp_path) as out:
        async with service(tmp_path, people=few(), mavera=mavera) as live:
            first, *others = await all_held(live)
            mavera.credits = 10_000

            await live.http.post(f"/signals/{first}/replay")

            for event_id in (first, *others):
                await live.becomes(event_id, "briefed")
            assert len((await live.http.get("/briefs")).json()["items"]) == 6
    [row] = [json.loads(line) for line in out.getvalue().splitlines() if '"work.resumed"' in line]
    assert (row["service"], row["signals"]) == ("mavera", 5)


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings that say where the record is."""
    return {} if request.param == "sqlite" else {"database_url": request.getfixturevalue("postgres").url}


@pytest.mark.usefixtures("no_probes")
async def test_a_restart_with_the_trouble_mended_goes_on_at_once(tmp_path: Path, where: dict[str, Any]) -> None:
    async with service(tmp_path, people=few(), mavera=MaveraSimulation(credits=0), **where) as live:
        ids = await all_held(live)
    async with service(tmp_path, people=few(), **where) as live:
        for event_id in ids:
            await live.becomes(event_id, "briefed")
        assert (await live.http.get("/readyz")).json()["troubles"] == {}


@pytest.mark.usefixtures("no_probes")
async def test_a_restart_with_the_trouble_unmended_costs_a_few_calls_and_no_attempt(
    tmp_path: Path, where: dict[str, Any]
) -> None:
    async with service(tmp_path, people=few(), mavera=MaveraSimulation(credits=0), **where) as live:
        ids = await all_held(live)
    spent = MaveraSimulation(credits=0)
    async with service(tmp_path, people=few(), mavera=spent, mavera_concurrency=1, **where) as live:

        async def asked() -> bool:
            return live.mavera.statuses[402] > 0 and "mavera" in (await live.http.get("/readyz")).json()["troubles"]

        await until(asked, "the trouble to be found unmended")
        for event_id in ids:
            told = await live.becomes(event_id, "waiting")
            assert told["attempts"] == 0
        assert live.mavera.statuses[402] == 1


@pytest.mark.usefixtures("no_probes")
async def test_a_replica_that_starts_again_and_again_asks_once_a_minute(tmp_path: Path, postgres: Scratch) -> None:
    where: dict[str, Any] = {"database_url": postgres.url}
    async with service(tmp_path, people=few(), mavera=MaveraSimulation(credits=0), **where) as live:
        await all_held(live)

    async def calls_of_a_start() -> int:
        async with service(tmp_path, people=few(), mavera=MaveraSimulation(credits=0), **where) as live:
            worker = live.service.worker
            assert worker is not None

            async def is_at_rest() -> bool:
                now_or_running = "execute_after <= now() OR status = 'picked'"
                jobs = postgres.run(f"SELECT count(*) FROM {NAMES.queue_table} WHERE {now_or_running}")  # noqa: S608
                return not worker._resuming and jobs == 0

            await until(is_at_rest, "whatever is let go to be done")
            return live.mavera.statuses[402]

    assert [await calls_of_a_start() for _ in range(4)] == [1, 0, 0, 0]
    postgres.run("UPDATE upstream_troubles SET asked_at = asked_at - interval '1 minute'")
    assert await calls_of_a_start() == 1
