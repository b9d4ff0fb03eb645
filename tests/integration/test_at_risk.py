"""MRR at risk: whatever happens, in whatever order, the kept sums are those that the briefs themselves give."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.outcome.rules import Outcome
from churn_radar.store.at_risk import Risk, RiskNow, day_of, put_back, risk_since, take_off
from churn_radar.store.customers import remember
from churn_radar.store.outcomes import set_outcome
from churn_radar.store.record import Record
from churn_radar.store.tables import briefs
from churn_radar.triage.customer import CustomerRef, Profile
from tests.support.door import house
from tests.support.kept_briefs import keep_briefs
from tests.support.work import NOON

DAY = timedelta(days=1)
TODAY = day_of(NOON)
PERSONAS = ("High-MRR Fintech (Pro plan)", "Pro Media User")
KINDS = ("unsubscribed", "bounced", "complained")


async def now(record: Record, first_day: int = 0, currency: str = "USD") -> RiskNow:
    async with record.read() as connection:
        return await risk_since(connection, first_day, currency=currency)


async def as_told_by_the_briefs(record: Record, closed: set[int], first_day: int) -> RiskNow:
    """The same sums, added up from every brief there is."""
    personas: defaultdict[str, Risk] = defaultdict(Risk)
    kinds: defaultdict[str, Risk] = defaultdict(Risk)
    days: defaultdict[int, Risk] = defaultdict(Risk)
    async with record.read() as connection:
        rows = (await connection.execute(select(briefs).order_by(briefs.c.seq))).mappings().all()
    newest = {row["customer_seq"]: row["seq"] for row in rows}
    for row in rows:
        day, mrr = day_of(row["created_at"]), round(row["mrr"] * 100)
        if day < first_day:
            continue
        is_at_risk = newest[row["customer_seq"]] == row["seq"] and row["seq"] not in closed
        risk = Risk(1, mrr, int(is_at_risk), mrr if is_at_risk else 0)
        personas[row["persona_type"]] += risk
        kinds[row["event_type"]] += risk
        days[day] += risk
    return RiskNow(sum(days.values(), Risk()), dict(personas), dict(kinds), dict(days))


@pytest.mark.usefixtures("everywhere")
async def test_the_kept_sums_are_those_of_the_briefs_whatever_happens(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with house(tmp_path) as home:
        seqs: list[int] = []
        closed: set[int] = set()
        for _ in range(30):
            match dice.choice(("brief", "brief", "close", "take back", "merge")):
                case "brief":
                    told = {
                        "customer": f"cust_{dice.randrange(6)}",
                        "persona_type": dice.choice(PERSONAS),
                        "event_type": dice.choice(KINDS),
                        "mrr": dice.choice((0.0, 49.99, 850.0, 0.1)),
                        "created_at": NOON - dice.randrange(5) * DAY,
                    }
                    seqs += await keep_briefs(home.record, told)
                case "close" if seqs:
                    some = dice.sample(seqs, min(2, len(seqs)))
                    await home.record.write(partial(take_off, brief_seqs=some))
                    closed |= set(some)
                case "take back" if closed:
                    one = dice.choice(sorted(closed))
                    await home.record.write(partial(put_back, brief_seq=one))
                    closed.remove(one)
                case "merge":
                    name, other = (f"cust_{n}" for n in dice.sample(range(6), 2))
                    for ref in (CustomerRef(other, f"c-{other}"), CustomerRef(name, f"c-{other}")):
                        await home.record.write(partial(remember, profile=Profile(ref, {}), now=NOON))
            for first_day in (0, TODAY - 2):
                assert await now(home.record, first_day) == await as_told_by_the_briefs(home.record, closed, first_day)


@pytest.mark.usefixtures("everywhere")
async def test_a_customers_newer_brief_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await keep_briefs(home.record, {"mrr": 100.0, "created_at": NOON - DAY}, {"mrr": 120.0})
        found = await now(home.record)

        assert found.total == Risk(2, 22_000, 1, 12_000)
        assert found.days == {TODAY - 1: Risk(1, 10_000), TODAY: Risk(1, 12_000, 1, 12_000)}


@pytest.mark.usefixtures("everywhere")
async def test_two_customers_that_turn_out_to_be_one_count_once(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await keep_briefs(home.record, {"customer": "cust_1"}, {"customer": "c-1", "mrr": 20.0})
        assert (await now(home.record)).total.open_briefs == 2

        async def are_one(connection: AsyncConnection) -> None:
            # Known by the cio_id only, until a look-up shows both names together.
            row = await remember(connection, Profile(CustomerRef("c-1", "cio-1"), {}), NOON)
            assert row != await remember(connection, Profile(CustomerRef("cust_1"), {}), NOON)
            await remember(connection, Profile(CustomerRef("cust_1", "cio-1"), {}), NOON)

        await home.record.write(are_one)
        assert (await now(home.record)).total == Risk(2, 87_000, 1, 2_000)


@pytest.mark.usefixtures("everywhere")
async def test_other_currencies_are_not_added_up_with_ours(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await keep_briefs(home.record, {"mrr": 1.0}, {"customer": "cust_2", "mrr": 2.0, "currency": "EUR"})
        assert (await now(home.record)).total.open_mrr == 100
        assert (await now(home.record, currency="EUR")).total.open_mrr == 200


@pytest.mark.usefixtures("everywhere")
async def test_a_brief_that_still_counts_cannot_be_removed_unnoticed(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        [seq] = await keep_briefs(home.record, {})

        async def remove(connection: AsyncConnection) -> None:
            await connection.execute(delete(briefs).where(briefs.c.seq == seq))

        with pytest.raises(IntegrityError):
            await home.record.write(remove)
        assert (await now(home.record)).total.open_briefs == 1


async def test_personas_and_kinds_come_dearest_first(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        told = ({"customer": f"cust_{n}", "persona_type": f"P{n}", "mrr": float(n)} for n in (3, 1, 2))
        await keep_briefs(home.record, *told)
        assert list((await now(home.record)).personas) == ["P3", "P2", "P1"]


@pytest.mark.usefixtures("everywhere")
async def test_an_outcome_that_ends_a_brief_takes_it_off_and_taking_it_back_puts_it_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await keep_briefs(home.record, {"brief_id": "brf_1"})
        for outcome, left in ((Outcome.CONTACTED, 1), (Outcome.SAVED, 0), (Outcome.LOST, 0), (None, 1), (None, 1)):
            say = partial(set_outcome, brief_id="brf_1", outcome=outcome, who="Ines", now=NOON, note="so it is")
            await home.record.write(say)
            assert (await now(home.record)).total == Risk(1, 85_000, left, 85_000 * left), outcome
