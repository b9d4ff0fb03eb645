"""Briefs that were put aside come back: the pages show it, and the sinks that people read are told, each of them once.

A reminder is a row of the record; one replica at a time has it in hand. Between a message and the note of it in the
record a crash may repeat that message, and nothing else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import RecordUnavailable
from churn_radar.research.brief import Brief
from churn_radar.sinks.filter import EVERYTHING, Facts, Filter
from churn_radar.sinks.message import LinksFor, Message, no_links, of_brief
from churn_radar.sinks.protocol import Sink, Speaker, kind_of
from churn_radar.store.briefs import load_brief
from churn_radar.store.outcomes import come_back, story_of
from churn_radar.store.record import Record
from churn_radar.store.reminders import Reminder, finish, note_told, put_off, take_due
from churn_radar.work.steps import describe, utc_now

log = structlog.get_logger(__name__)

EVERY_SECONDS = 30.0
# Longer than it takes to tell every sink.
HOLD = timedelta(minutes=10)
TIMEOUT = timedelta(seconds=60)
RETRY_AFTER = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6))


@dataclass(frozen=True)
class Reminders:
    """Watches for what is due. `filters` are those of the sinks: who never heard of a brief is not reminded of it."""

    record: Record
    sinks: Sequence[Sink]
    filters: Mapping[str, Filter] = field(default_factory=dict)
    links: LinksFor = no_links
    now: Callable[[], datetime] = utc_now

    async def keep_on(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look twice a minute, for as long as the service runs; a failure is told, and tried again."""
        while True:
            try:
                while await self.once():
                    pass
            except RecordUnavailable as error:
                log.warning("reminders.wait_for_the_record", cause=str(error))
            except Exception:
                log.exception("reminders.failed")
            await sleep(EVERY_SECONDS)

    async def once(self) -> bool:
        """Bring back the brief that has been due for longest; False when none is. Raises RecordUnavailable."""
        now = self.now()
        reminder = await self.record.write(lambda connection: _take(connection, now))
        if reminder is None:
            return False
        async with self.record.read() as connection:
            stored = await load_brief(connection, reminder.brief_seq)
            story = await story_of(connection, reminder.brief_seq)
        told = reminder
        if stored is not None:
            note = next((line.note for line in reversed(story) if line.note), None)
            told, failed = await self._tell(reminder, stored.brief, await self._message(stored.brief, note))
            if failed and told.attempts <= len(RETRY_AFTER):
                until = now + RETRY_AFTER[told.attempts - 1]
                await self.record.write(lambda connection: put_off(connection, told, until))
                return True
        await self.record.write(lambda connection: finish(connection, told))
        return True

    async def _message(self, brief: Brief, note: str | None) -> Message:
        message = of_brief(brief, await self.links(brief))
        facts = [*message.facts, *([("Owner", brief.owner)] if brief.owner else [])]
        lines = (("Note", note), *message.lines) if note else message.lines
        return replace(
            message,
            title=f"Back from snooze: {brief.event_type}, {brief.persona_type}",
            facts=tuple(facts),
            lines=lines,
        )

    async def _tell(self, reminder: Reminder, brief: Brief, message: Message) -> tuple[Reminder, bool]:
        """Tell every sink that has not been told; returns what is in hand then, and whether one failed."""
        failed = False
        facts = Facts(plan=brief.plan, mrr=Decimal(str(brief.mrr)), persona=brief.persona_type, kind=brief.event_type)
        for sink in self.sinks:
            takes = self.filters.get(sink.name, EVERYTHING).why_not(facts) is None
            if sink.name in reminder.told or not isinstance(sink, Speaker) or not takes:
                continue
            try:
                async with asyncio.timeout(TIMEOUT.total_seconds()):
                    await sink.say(message)
            except Exception as error:
                failed = True
                log.warning("reminder.failed", sink=kind_of(sink.name), brief_id=brief.id, cause=describe(error))
                continue
            reminder = replace(reminder, told=(*reminder.told, sink.name))
            await self._note(reminder)
            log.info("reminder.sent", sink=kind_of(sink.name), brief_id=brief.id)
        return reminder, failed

    async def _note(self, reminder: Reminder) -> None:
        await self.record.write(lambda connection: note_told(connection, reminder))


async def _take(connection: AsyncConnection, now: datetime) -> Reminder | None:
    reminder = await take_due(connection, now=now, hold=HOLD)
    if reminder is not None:
        # At once: the pages show it, whatever becomes of the messages.
        await come_back(connection, reminder.brief_seq, now=now)
    return reminder
