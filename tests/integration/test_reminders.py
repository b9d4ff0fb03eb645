from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from churn_radar.research.brief import Brief
from churn_radar.sinks.filter import Filter
from churn_radar.sinks.message import Message
from churn_radar.store.outcomes import assign, find_handling, snooze, story_of
from churn_radar.work.reminders import HOLD, RETRY_AFTER, Reminders
from tests.support.work import NOON, ListSink, Workshop, payload, workshop

MONDAY = NOON + timedelta(days=3)


@dataclass
class Chat:
    """A sink that people read."""

    name: str = "chat"
    errors: list[Exception] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)

    async def deliver(self, brief: Brief) -> None:
        raise AssertionError("a reminder is no brief")

    async def say(self, message: Message) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.said.append(message)


@asynccontextmanager
async def snoozed(folder: Path) -> AsyncIterator[tuple[Workshop, str]]:
    """A brief that Ines has put aside until Monday."""
    async with workshop(folder) as shop:
        await shop.briefed(payload("cust_1001"))
        [brief] = await shop.briefs()
        await shop.record.write(lambda c: assign(c, brief.id, "Ines", who="Ines", now=NOON))
        await shop.record.write(lambda c: snooze(c, brief.id, MONDAY, who="Ines", now=NOON, note="after their board"))
        yield shop, brief.id


async def test_a_brief_comes_back_when_it_is_due_and_whoever_reads_is_told_once(
    everywhere: str, tmp_path: Path
) -> None:
    async with snoozed(tmp_path) as (shop, brief_id):
        chat, mail = Chat(), Chat("mail")
        one, other = (Reminders(shop.record, [chat, ListSink(), mail], now=shop.clock) for _ in range(2))
        shop.clock.now = MONDAY - timedelta(seconds=1)
        assert not await one.once()

        shop.clock.now = MONDAY
        assert sorted(await asyncio.gather(one.once(), other.once())) == [False, True]
        assert not await other.once()

        assert len(chat.said) == len(mail.said) == 1
        [message] = chat.said
        assert message.title.startswith("Back from snooze: unsubscribed")
        assert ("Owner", "Ines") in message.facts
        assert ("Note", "after their board") in message.lines
        async with shop.record.read() as connection:
            handling = await find_handling(connection, brief_id)
            assert handling is not None
            story = await story_of(connection, handling.seq)
        assert (handling.snoozed_until, handling.reminded_at) == (None, MONDAY)
        assert [line.what for line in story] == ["owner", "snoozed", "reminded"]


async def test_a_sink_that_fails_is_tried_again_and_the_others_are_told_no_second_time(
    everywhere: str, tmp_path: Path
) -> None:
    async with snoozed(tmp_path) as (shop, _):
        chat, mail = Chat(), Chat("mail", [OSError(), OSError()])
        reminders = Reminders(shop.record, [chat, mail], now=shop.clock)
        shop.clock.now = MONDAY
        assert await reminders.once()
        assert not await reminders.once()
        for wait in RETRY_AFTER[:2]:
            shop.clock.forward(wait)
            assert await reminders.once()
        shop.clock.forward(timedelta(days=9))
        assert not await reminders.once()
        assert (len(chat.said), len(mail.said)) == (1, 1)


async def test_it_gives_up_in_the_end(tmp_path: Path) -> None:
    async with snoozed(tmp_path) as (shop, _):
        chat = Chat(errors=[OSError() for _ in range(99)])
        reminders = Reminders(shop.record, [chat], now=shop.clock)
        shop.clock.now = MONDAY
        attempts = 0
        while await reminders.once():
            attempts += 1
            shop.clock.forward(timedelta(days=1))
        assert attempts == len(RETRY_AFTER) + 1


async def test_another_takes_over_from_one_that_died_with_it_in_hand(everywhere: str, tmp_path: Path) -> None:
    async with snoozed(tmp_path) as (shop, _):
        dying, chat = Chat("chat", [asyncio.CancelledError()]), Chat()  # type: ignore[list-item]
        shop.clock.now = MONDAY
        with suppress(asyncio.CancelledError):
            await Reminders(shop.record, [dying], now=shop.clock).once()
        other = Reminders(shop.record, [chat], now=shop.clock)
        assert not await other.once()
        shop.clock.forward(HOLD)
        assert await other.once()
        assert len(chat.said) == 1


async def test_who_puts_it_aside_anew_is_reminded_then_and_only_sinks_that_take_the_brief_are_told(
    tmp_path: Path,
) -> None:
    async with snoozed(tmp_path) as (shop, brief_id):
        later = MONDAY + timedelta(days=2)
        await shop.record.write(lambda c: snooze(c, brief_id, later, who="Ines", now=NOON))
        chat, picky = Chat(), Chat("picky")
        filters = {"picky": Filter(kinds=frozenset({"bounced"}))}
        reminders = Reminders(shop.record, [chat, picky], filters, now=shop.clock)
        shop.clock.now = MONDAY
        assert not await reminders.once()
        shop.clock.now = later
        assert await reminders.once()
        assert (len(chat.said), picky.said) == (1, [])
        await shop.record.write(lambda c: snooze(c, brief_id, later + timedelta(days=1), who="Ines", now=later))
        await shop.record.write(lambda c: snooze(c, brief_id, None, who="Ines", now=later))
        shop.clock.forward(timedelta(days=9))
        assert not await reminders.once()
