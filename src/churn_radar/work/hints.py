"""Events that speak of staying: kept where there is a brief to show them on, else forgotten. No look-up is made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.customers import hold_customers, recall_all
from churn_radar.store.hints import Hinted, await_an_end, forget_events, is_about_to_be_known, keep_hint
from churn_radar.store.signals import Signal, advance, standing_at
from churn_radar.store.tables import Status
from churn_radar.triage.kinds import HINTS
from churn_radar.work.steps import Floor
from churn_radar.work.tasks import Again, Outcome

# How old a brief may be that still waits to be told how it ended.
WINDOW = timedelta(days=90)
# A customer may unsubscribe and think better of it within seconds: the signal is triaged first.
WAIT, MOST_WAITS = timedelta(seconds=60), 10


async def settle_hints(floor: Floor, signals: Sequence[Signal]) -> dict[int, Outcome]:
    """Take events that are hints off the list of signals; returns which of them are to be looked at again, and when."""
    if not signals:
        return {}
    now = floor.now()
    waiting = await floor.write(lambda connection: _settle(connection, signals, now))
    return {seq: Again(WAIT, in_record=True) for seq in waiting}


async def _settle(connection: AsyncConnection, signals: Sequence[Signal], now: datetime) -> Collection[int]:
    refs = [signal.customer for signal in signals]
    await hold_customers(connection, refs)
    standing = await standing_at(connection, [signal.seq for signal in signals], Status.RECEIVED)
    known = await recall_all(connection, refs)
    open_ones = await await_an_end(connection, {each.seq for each in known if each}, since=now - WINDOW)
    waiting: list[int] = []
    for signal, customer in zip(signals, known, strict=True):
        if signal.seq not in standing:
            continue
        if customer is not None and customer.seq in open_ones:
            await keep_hint(connection, _key(signal), customer.seq, _hinted(signal))
        elif signal.attempts < MOST_WAITS and await is_about_to_be_known(connection, signal.customer, HINTS):
            waiting.append(signal.seq)
            await advance(
                connection,
                signal.seq,
                expected=(Status.RECEIVED,),
                to=Status.RECEIVED,
                now=now,
                reason="a signal of this customer is triaged first",
                attempts=signal.attempts + 1,
                due_at=now + WAIT,
            )
    await forget_events(connection, [seq for seq in standing if seq not in waiting])
    return waiting


def _key(signal: Signal) -> str:
    return signal.signal_id.removeprefix("sig_")


def _hinted(signal: Signal) -> Hinted:
    # When it came in: what it is compared with, the signal of a brief, is known by that as well.
    return Hinted(signal.kind or "", signal.received_at)
