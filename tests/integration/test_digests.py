"""Digests over a real record: once for each period, whoever is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from churn_radar.outcome.rules import Outcome
from churn_radar.sinks.digest import Period, read_plans
from churn_radar.sinks.message import Message
from churn_radar.sinks.protocol import Speaker
from churn_radar.store.digests import read_digest_figures
from churn_radar.store.outcomes import set_outcome, snooze
from churn_radar.store.tables import digests
from churn_radar.work.digests import LEASE, Digests
from tests.support.work import ListSink, Workshop, payload, workshop

[MORNING] = read_plans([{"name": "morning", "sink": "desk"}], {"desk"})
DAY = timedelta(days=1)


@dataclass
class HeldUp:
    """A call that waits until it may go on, and fails then."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Desk(ListSink):
    """A sink that people read."""

    name: str = "desk"
    said: list[Message] = field(default_factory=list)
    held_up: list[HeldUp] = field(default_factory=list)

    async def say(self, message: Message) -> None:
        self.calls += 1
        if self.held_up:
            held_up = self.held_up.pop()
            held_up.reached.set()
            await held_up.go.wait()
            raise OSError
        if self.errors:
            raise self.errors.pop(0)
        self.said.append(message)


@pytest.fixture
async def shop(tmp_path: Path, everywhere: str) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path, sinks=[Desk()], cool_down_hours=0) as made:
        yield made


def desk(shop: Workshop) -> Desk:
    [found] = shop.sinks
    assert isinstance(found, Desk)
    assert isinstance(found, Speaker)
    return found


def digests_of(shop: Workshop) -> Digests:
    """One replica's."""
    return Digests(
        shop.record, [MORNING], shop.sinks, "USD", "https://r.example", [timedelta(minutes=1)], now=shop.clock
    )


async def stand(shop: Workshop) -> dict[str, str]:
    """The periods and how they stand."""
    async with shop.record.read() as connection:
        rows = await connection.execute(select(digests.c.period, digests.c.status))
        return {row.period: row.status for row in rows}


async def test_the_first_time_nothing_is_told_of_a_time_before_it_was_wanted(shop: Workshop) -> None:
    assert not await digests_of(shop).once(MORNING)
    assert not await digests_of(shop).once(MORNING)

    assert (desk(shop).said, await stand(shop)) == ([], {"2026-11-24": "skipped"})


async def test_each_period_is_told_once_whichever_replica_gets_there(shop: Workshop) -> None:
    one, two = digests_of(shop), digests_of(shop)
    await one.once(MORNING)
    shop.clock.forward(DAY)

    sent = await asyncio.gather(*(replica.once(MORNING) for replica in (one, two, one, two)))

    assert sorted(sent) == [False, False, False, True]
    assert [message.id for message in desk(shop).said] == ["digest morning 2026-11-25"]
    shop.clock.forward(timedelta(hours=1))
    assert not await digests_of(shop).once(MORNING)


async def test_one_that_was_missed_while_nobody_was_there_comes_once_and_late(shop: Workshop) -> None:
    await digests_of(shop).once(MORNING)
    shop.clock.forward(4 * DAY + timedelta(hours=5))

    later = digests_of(shop)
    assert await later.once(MORNING)
    assert not await later.once(MORNING)

    assert [message.id for message in desk(shop).said] == ["digest morning 2026-11-28"]


async def test_after_an_outage_the_whole_gap_is_told_and_the_next_one_is_as_ever(shop: Workshop) -> None:
    replica = digests_of(shop)
    await replica.once(MORNING)
    await shop.briefed(payload("cust_1001"))
    shop.clock.forward(DAY)
    desk(shop).errors += [OSError(), OSError()]
    await replica.once(MORNING)
    shop.clock.forward(timedelta(minutes=2))
    await replica.once(MORNING)
    assert (await stand(shop))["2026-11-25"] == "dead"
    await shop.briefed(payload("cust_1003", "complained"))
    shop.clock.forward(2 * DAY)

    assert await digests_of(shop).once(MORNING)
    shop.clock.forward(DAY)
    assert await digests_of(shop).once(MORNING)

    first, second = (dict(message.facts) for message in desk(shop).said)
    assert first["New briefs"] == "2, $12,650 a month (1 complained, 1 unsubscribed)"
    assert first["Covers"].startswith("all since 2026-11-24 08:00 (UTC)")
    assert (second["New briefs"], "Covers" in second) == ("0, $0 a month", False)


async def test_a_sink_that_is_down_gets_it_later_and_then_it_is_given_up(shop: Workshop) -> None:
    replica = digests_of(shop)
    await replica.once(MORNING)
    shop.clock.forward(DAY)
    desk(shop).errors += [OSError(), OSError()]

    assert not await replica.once(MORNING)
    assert not await replica.once(MORNING)  # not before its time
    assert desk(shop).calls == 1
    shop.clock.forward(timedelta(minutes=2))
    assert not await replica.once(MORNING)
    shop.clock.forward(timedelta(minutes=2))
    assert not await replica.once(MORNING)

    assert (desk(shop).calls, (await stand(shop))["2026-11-25"]) == (2, "dead")
    shop.clock.forward(DAY)
    assert await replica.once(MORNING)


async def test_what_a_replica_had_in_hand_when_it_died_is_taken_up_by_another(shop: Workshop) -> None:
    replica = digests_of(shop)
    await replica.once(MORNING)
    shop.clock.forward(DAY)
    desk(shop).errors.append(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await replica.once(MORNING)

    other = digests_of(shop)
    assert not await other.once(MORNING)
    shop.clock.forward(LEASE)
    assert await other.once(MORNING)


async def test_a_failure_that_is_noted_after_the_lease_leaves_what_another_has_sent(
    shop: Workshop,
) -> None:
    replica = digests_of(shop)
    await replica.once(MORNING)
    shop.clock.forward(DAY)
    late = HeldUp()
    desk(shop).held_up.append(late)
    slow = asyncio.create_task(replica.once(MORNING))
    await late.reached.wait()
    shop.clock.forward(LEASE)
    assert await digests_of(shop).once(MORNING)
    late.go.set()
    assert not await slow

    shop.clock.forward(timedelta(hours=1))
    assert not await digests_of(shop).once(MORNING)
    assert (len(desk(shop).said), (await stand(shop))["2026-11-25"]) == (1, "delivered")


async def test_a_replica_whose_clock_is_behind_leaves_the_newest_one_to_be_sent(shop: Workshop) -> None:
    await digests_of(shop).once(MORNING)
    shop.clock.forward(DAY)
    desk(shop).errors += [OSError(), OSError()]
    await digests_of(shop).once(MORNING)
    shop.clock.forward(DAY)
    await digests_of(shop).once(MORNING)

    shop.clock.forward(-DAY + timedelta(minutes=5))
    await digests_of(shop).once(MORNING)
    assert (await stand(shop))["2026-11-26"] == "pending"
    shop.clock.forward(DAY)
    assert await digests_of(shop).once(MORNING)
    assert [message.id for message in desk(shop).said] == ["digest morning 2026-11-26"]


async def test_a_late_clock_that_is_the_first_to_ask_for_a_period_leaves_the_newest_one_to_be_sent(
    shop: Workshop,
) -> None:
    await digests_of(shop).once(MORNING)
    shop.clock.forward(2 * DAY)
    desk(shop).errors.append(OSError())
    await digests_of(shop).once(MORNING)  # nobody was there for the one before

    shop.clock.forward(-DAY + timedelta(minutes=5))
    assert await digests_of(shop).once(MORNING)
    assert (await stand(shop))["2026-11-26"] == "pending"
    shop.clock.forward(DAY)
    assert await digests_of(shop).once(MORNING)
    assert [message.id for message in desk(shop).said] == ["digest morning 2026-11-25", "digest morning 2026-11-26"]


async def test_a_clock_that_is_set_back_sends_nothing_twice(shop: Workshop) -> None:
    replica = digests_of(shop)
    await replica.once(MORNING)
    shop.clock.forward(DAY)
    await replica.once(MORNING)
    shop.clock.forward(-timedelta(hours=3))
    await digests_of(shop).once(MORNING)
    shop.clock.forward(timedelta(hours=4))
    await digests_of(shop).once(MORNING)

    assert len(desk(shop).said) == 1


async def test_the_figures_are_those_of_the_period_and_of_now(shop: Workshop) -> None:
    await shop.briefed(payload("cust_1001"))
    await shop.briefed(payload("cust_1003", "complained"))
    shop.clock.forward(timedelta(hours=2))
    await shop.briefed(payload("cust_1005"))
    await shop.arrive(payload("cust_1006"))
    newest = (await shop.briefs())[0]
    await shop.record.write(
        lambda connection: set_outcome(
            connection, newest.id, Outcome.SAVED, note=None, who="somebody", now=shop.clock()
        )
    )
    oldest = (await shop.briefs())[-1]
    await shop.record.write(
        lambda connection: snooze(
            connection, oldest.id, until=shop.clock() + DAY, note=None, who="somebody", now=shop.clock()
        )
    )
    period = Period("x", shop.clock() - timedelta(hours=2), shop.clock() - timedelta(hours=1))

    async with shop.record.read() as connection:
        early = await read_digest_figures(connection, period, currency="USD", now=shop.clock(), at_risk_days=30)
        late = await read_digest_figures(
            connection,
            Period("y", period.until, shop.clock() + timedelta(hours=1)),
            currency="USD",
            now=shop.clock(),
            at_risk_days=30,
        )
    assert (early.briefs, early.brief_mrr, early.kinds) == (2, Decimal(12650), {"complained": 1, "unsubscribed": 1})
    assert [dear.mrr for dear in early.dearest] == [Decimal(11800), Decimal(850)]
    assert (early.outcomes, early.waiting, early.dead, early.undelivered) == ({}, 1, 0, 0)
    assert (late.briefs, late.outcomes) == (1, {"saved": (1, Decimal(320))})
    assert (late.came_back, late.put_aside) == (0, 1)
    assert (late.at_risk, late.at_risk_mrr) == (2, Decimal(12650))
