from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from churn_radar.store.deliveries import plan_deliveries
from churn_radar.store.signals import advance
from churn_radar.store.tables import Status
from churn_radar.work.takeover import REASON, follow_ups, put_back
from churn_radar.work.tasks import Step
from tests.support.work import Workshop, payload, workshop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


async def begun(shop: Workshop, customer: str = "cust_1001") -> int:
    """A signal whose research a worker has begun, and of which it was not heard again."""
    seq = await shop.arrive(payload(customer))
    await shop.triage(seq)
    await shop.record.write(
        lambda connection: advance(
            connection, seq, expected=(Status.WAITING,), to=Status.RESEARCHING, now=shop.clock(), attempts=2
        )
    )
    return seq


async def test_begun_research_is_put_back_with_its_attempts_and_says_why(shop: Workshop) -> None:
    seqs = [await begun(shop), await begun(shop, "cust_1002")]

    assert await put_back(shop.floor, Step.RESEARCH, seqs) == 2

    for seq in seqs:
        signal = await shop.signal(seq)
        assert (signal.status, signal.attempts, signal.reason) == (Status.WAITING, 2, REASON)


async def test_what_ended_meanwhile_stays_as_it_is(shop: Workshop) -> None:
    seq = await shop.arrive(payload())
    await shop.triage(seq)
    await shop.research(seq)
    told = await shop.signal(seq)

    assert await put_back(shop.floor, Step.RESEARCH, [seq, 999]) == 0

    assert await shop.signal(seq) == told
    assert told.status is Status.BRIEFED


async def test_the_other_steps_leave_nothing_half_done(shop: Workshop) -> None:
    seq = await begun(shop)

    assert await put_back(shop.floor, Step.TRIAGE, [seq]) == 0
    assert (await shop.signal(seq)).status is Status.RESEARCHING


async def test_what_a_silent_worker_had_done_and_not_handed_on_goes_on(shop: Workshop) -> None:
    waits, briefed, fresh = [await shop.arrive(payload(f"cust_{number}")) for number in (1001, 1002, 1003)]
    for seq in (waits, briefed):
        await shop.triage(seq)
    await shop.research(briefed)
    brief_seq = (await shop.signal(briefed)).brief_seq
    assert brief_seq is not None
    new = await shop.record.write(
        lambda connection: plan_deliveries(connection, brief_seq, {"late": None}, shop.clock())
    )

    [research] = await follow_ups(shop.floor, Step.TRIAGE, [waits, briefed, fresh])
    owed = await follow_ups(shop.floor, Step.RESEARCH, [waits, briefed, fresh])

    assert (research.step, research.seq, research.delay) == (Step.RESEARCH, waits, None)
    assert research.priority > 0
    assert [(task.step, task.seq) for task in owed if task.seq in new] == [(Step.DELIVER, seq) for seq in new]
    assert await follow_ups(shop.floor, Step.DELIVER, [waits]) == []
