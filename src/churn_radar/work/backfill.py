"""Signals that the door never saw, read from the App API's list of messages and fed in.

The list tells no event ids, so an event is known by its message and its kind. What the door has seen of the same
message, or of the same customer at about the same time without a message, is not fed in again; what was fed in once
keeps its key for good.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from churn_radar.customerio.messages import Page, as_event
from churn_radar.errors import NotUnderstood
from churn_radar.intake.events import ChurnEvent, about_message, to_arrival, understand
from churn_radar.intake.payload import read_event
from churn_radar.store.arrivals import Verdict
from churn_radar.store.known import known_events, known_of
from churn_radar.store.record import Record
from churn_radar.triage.known import is_known
from churn_radar.work.forgotten import Forgotten

SOURCE = "backfill"
# Mails are listed by when they were made, and may be complained of weeks later.
MADE_BEFORE = timedelta(days=30)
# The App API keeps six months.
LONGEST = timedelta(days=150)
AT_ONCE = 100


class ListsMessages(Protocol):
    """What is asked of the workspace."""

    async def messages(self, metric: str, *, start: datetime, end: datetime, after: str | None = None) -> Page:
        """One page of mails with this metric."""
        ...


class Fate(StrEnum):
    """What became of one event of the list."""

    FED_IN = "fed_in"
    KNOWN = "known"
    KEPT_OUT = "kept_out"
    NOT_UNDERSTOOD = "not_understood"


@dataclass(frozen=True)
class Backfilled:
    """What became of one page, and where the next one begins; None after the last."""

    next: str | None
    counts: Counter[Fate] = field(default_factory=Counter)


async def backfill_page(
    record: Record,
    forgotten: Forgotten,
    workspace: ListsMessages,
    metric: str,
    *,
    since: datetime,
    now: datetime,
    after: str | None,
    kept_events: Collection[str],
    dry_run: bool,
) -> Backfilled:
    """Feed one page of events of this metric in that happened since; with `dry_run` only count them.

    Those about people who were forgotten are kept out, as at the door.
    Raises UpstreamError and RecordUnavailable.
    """
    page = await workspace.messages(metric, start=since - MADE_BEFORE, end=now, after=after)
    done = Backfilled(page.next)
    events: list[ChurnEvent] = []
    for message in page.messages:
        told = as_event(message, metric, since)
        if told is None:
            continue
        try:
            understood = understand(read_event(told), kept_events)
        except NotUnderstood:
            done.counts[Fate.NOT_UNDERSTOOD] += 1
            continue
        if isinstance(understood, ChurnEvent):
            events.append(about_message(understood))
    await forgotten.hear_now()
    for listed in _in_parts(events):
        some = [event for event in listed if forgotten.person(event.customer) is None]
        done.counts[Fate.KEPT_OUT] += len(listed) - len(some)
        fresh = await _unknown(record, some, now)
        done.counts[Fate.KNOWN] += len(some) - len(fresh)
        if dry_run:
            done.counts[Fate.FED_IN] += len(fresh)
            continue
        arrivals = [to_arrival(event, received_at=now, source=SOURCE) for event in fresh]
        for outcome in await asyncio.gather(*(record.accept(arrival) for arrival in arrivals)):
            done.counts[Fate.FED_IN if outcome.verdict is Verdict.ACCEPTED else Fate.KNOWN] += 1
    return done


async def _unknown(record: Record, events: Sequence[ChurnEvent], now: datetime) -> list[ChurnEvent]:
    if not events:
        return []
    async with record.read() as connection:
        named = await known_events(connection, events[0].kind, [event.customer for event in events])
    return [
        event
        for event in events
        if not is_known(
            event.kind, event.facts["delivery_id"], event.occurred_at or now, known_of(named, event.customer)
        )
    ]


def _in_parts(events: Sequence[ChurnEvent]) -> Iterator[Sequence[ChurnEvent]]:
    for start in range(0, len(events), AT_ONCE):
        yield events[start : start + AT_ONCE]
