from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.intake.events import to_quarantine
from churn_radar.outcome.rules import Outcome
from churn_radar.store.audit import Change, list_changes, write_change
from churn_radar.store.outcomes import assign, set_outcome, snooze
from churn_radar.store.tables import briefs, credits, customers, outcome_sums, signals
from churn_radar.work.retention import PAGE, Retention
from tests.support.postgres import Scratch
from tests.support.work import NOON, Workshop, payload, settings_for, until, workshop

DAYS = 30


async def count(shop: Workshop, table: Any) -> int:
    async with shop.record.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def left(shop: Workshop) -> tuple[int, int, int]:
    return await count(shop, briefs), await count(shop, signals), await count(shop, customers)


async def test_what_is_finished_and_old_goes_and_money_and_counts_stay(everywhere: str, tmp_path: Path) -> None:
    async with workshop(tmp_path, cool_down_hours=24) as shop:
        retention = Retention(shop.record, DAYS, shop.clock)
        await shop.briefed(payload("cust_1001"))
        await shop.triage(await shop.arrive(payload("cust_1001", "bounced")))
        await shop.triage(await shop.arrive(payload("cust_1004")))
        await shop.accept(to_quarantine(b"no JSON", "no JSON", received_at=NOON, event_id=None))
        assert await left(shop) == (1, 4, 2)
        spent, sums = await count(shop, credits), await count(shop, outcome_sums)

        shop.clock.forward(timedelta(days=DAYS))
        assert await retention.once() == {}
        shop.clock.forward(timedelta(seconds=1))
        assert await retention.once() == {"briefs": 1, "signals skipped": 1, "customers": 2}

        assert await left(shop) == (0, 1, 0), "the quarantined body waits for a release that understands it"
        assert (await count(shop, credits), await count(shop, outcome_sums)) == (spent, sums)
        assert await retention.once() == {}


async def test_what_is_in_somebodys_hands_put_aside_or_shared_by_something_younger_stays(
    everywhere: str, tmp_path: Path
) -> None:
    async with workshop(tmp_path, cool_down_hours=24 * 60) as shop:
        retention = Retention(shop.record, DAYS, shop.clock)
        people = ("cust_1001", "cust_1003", "cust_1005", "cust_1009", "cust_1002")
        for customer in people:
            await shop.briefed(payload(customer))
        by = {brief.customer_id: brief.id for brief in await shop.briefs()}
        far = NOON + timedelta(days=200)
        await shop.record.write(lambda c: assign(c, by["cust_1001"], "Ines", who="x", now=NOON))
        await shop.record.write(lambda c: snooze(c, by["cust_1003"], far, who="x", now=NOON))
        await shop.record.write(lambda c: set_outcome(c, by["cust_1005"], Outcome.CONTACTED, who="x", now=NOON))
        shop.clock.forward(timedelta(days=DAYS - 1))
        await shop.triage(await shop.arrive(payload("cust_1009", "bounced")))
        waiting = await shop.arrive(payload("cust_1006"))
        shop.clock.forward(timedelta(days=2))

        await retention.once()

        assert {brief.customer_id for brief in await shop.briefs()} == set(people) - {"cust_1002"}
        assert (await shop.signal(waiting)).status == "received"
        for customer in ("cust_1001", "cust_1005"):
            await shop.record.write(
                lambda c, customer=customer: set_outcome(c, by[customer], Outcome.SAVED, who="x", now=NOON)  # type: ignore[misc]
            )
        await retention.once()
        assert {brief.customer_id for brief in await shop.briefs()} == {"cust_1003", "cust_1009"}


async def test_a_signal_that_was_researched_twice_loses_its_older_brief_only(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        seq = await shop.briefed(payload("cust_1001"))
        shop.clock.forward(timedelta(days=DAYS + 1))
        await shop.run((await shop.replay(seq, force=True)).tasks)
        assert await count(shop, briefs) == 2
        await Retention(shop.record, DAYS, shop.clock).once()
        assert await left(shop) == (1, 1, 1)


async def test_without_the_setting_nothing_goes_and_what_an_older_release_wrote_is_counted(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        await shop.briefed(payload("cust_1001"))
        await shop.record.write(lambda c: c.execute(update(briefs).values(counted_at=None, offer_label=None)))
        shop.clock.forward(timedelta(days=9999))
        assert await Retention(shop.record, None, shop.clock).once() == {}
        assert (await left(shop))[0] == 1
        async with shop.record.read() as connection:
            [row] = (await connection.execute(select(briefs.c.counted_at, briefs.c.offer_label))).all()
        assert all(row)


async def test_one_replica_at_a_time_removes(everywhere: str, tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        for customer in ("cust_1001", "cust_1003", "cust_1005"):
            await shop.briefed(payload(customer))
        shop.clock.forward(timedelta(days=DAYS + 1))
        done = await asyncio.gather(*(Retention(shop.record, DAYS, shop.clock).once() for _ in range(3)))
        assert sum(each.get("briefs", 0) for each in done) == 3
        await Retention(shop.record, DAYS, shop.clock).once()
        assert await left(shop) == (0, 0, 0)


async def test_what_somebody_takes_up_while_retention_looks_stays(postgres: Scratch, tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        skipped = await shop.arrive(payload("cust_1004"))
        await shop.triage(skipped)
        await shop.briefed(payload("cust_1001"))
        shop.clock.forward(timedelta(days=DAYS + 1))
        changed, looks = asyncio.Event(), asyncio.Event()

        async def take_up(connection: AsyncConnection) -> None:
            now = shop.clock()
            again = update(signals).where(signals.c.seq == skipped).values(status="received", updated_at=now)
            await connection.execute(again)
            await connection.execute(update(briefs).values(owner="Ines"))
            changed.set()
            await looks.wait()

        taking_up = asyncio.create_task(shop.record.write(take_up))
        await changed.wait()
        removing = asyncio.create_task(Retention(shop.record, DAYS, shop.clock).once())
        await until(lambda: waits_for_a_lock(postgres), "retention behind the change")
        looks.set()
        await asyncio.gather(taking_up, removing)
        assert (await left(shop))[:2] == (1, 2)


async def waits_for_a_lock(postgres: Scratch) -> bool:
    """Whether a connection to the database waits for another one."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await asyncio.to_thread(postgres.rows, waiting))


def test_a_record_does_not_forget_a_brief_within_its_cool_down(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="researched anew"):
        settings_for(tmp_path, retention_days=14, cool_down_hours=24 * 15)
    settings_for(tmp_path, retention_days=15, cool_down_hours=24 * 15)


async def test_mave_is_told_which_offers_worked_here_and_nothing_of_whom(tmp_path: Path) -> None:
    async with workshop(tmp_path, tell_mave_outcomes=True, cool_down_hours=0) as shop:
        for _ in range(3):
            await shop.briefed(payload("cust_1001"))
        for number, brief in enumerate(await shop.briefs()):
            assert "What worked here before" not in await prompt(shop, brief.id)
            outcome = Outcome.SAVED if number else Outcome.LOST
            await shop.record.write(
                lambda c, brief=brief, outcome=outcome: set_outcome(  # type: ignore[misc]
                    c, brief.id, outcome, who="Ines", now=shop.clock(), note="Jane Doe of acme.co took it"
                )
            )
        await shop.briefed(payload("cust_1001"))
        told = await prompt(shop, (await shop.briefs())[0].id)
        assert "What worked here before" in told
        assert "- discount 20 %: 2 of 3 stayed" in told
        for word in ("jane", "acme", "cust_1001", "ines", "took it"):
            assert word not in told.lower()


async def prompt(shop: Workshop, brief_id: str) -> str:
    async with shop.record.read() as connection:
        asked = select(briefs.c.prompt).where(briefs.c.brief_id == brief_id)
        return str((await connection.execute(asked)).scalar_one())


async def test_the_audit_trail_goes_by_a_bound_of_its_own(everywhere: str, tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        older = [Change(shop.clock(), "key 01234567", "api", "replay", str(number)) for number in range(PAGE + 2)]

        async def write_older(connection: AsyncConnection) -> None:
            for change in older:
                await write_change(connection, change)

        await shop.record.write(write_older)
        shop.clock.forward(timedelta(days=30))
        newer = Change(shop.clock(), "key 01234567", "api", "replay", "newer")
        await shop.record.write(lambda connection: write_change(connection, newer))
        shop.clock.forward(timedelta(seconds=1))

        assert await Retention(shop.record, 14, shop.clock).once() == {}
        assert await Retention(shop.record, None, shop.clock, audit_days=30).once() == {"audit lines": PAGE + 2}

        async with shop.record.read() as connection:
            [line] = await list_changes(connection, limit=9)
        assert line.change == newer


def test_the_trail_is_not_kept_shorter_than_what_it_tells_of(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="shorter than CHURN_RADAR_RETENTION_DAYS"):
        settings_for(tmp_path, retention_days=90, audit_retention_days=60)
