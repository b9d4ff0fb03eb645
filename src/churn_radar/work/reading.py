"""Reads a quarantined body again: a later release may understand what an earlier one did not."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import NotUnderstood
from churn_radar.intake.events import ChurnEvent, may_be_signal, to_arrival, understand
from churn_radar.intake.payload import decode, read_event, read_name
from churn_radar.store.arrivals import arrival_values
from churn_radar.store.quarantine import forget_body
from churn_radar.store.signals import Signal, advance, quarantined_body
from churn_radar.store.tables import Status, signals

log = structlog.get_logger(__name__)

NOT_KEPT = "its body is no longer kept"


async def read_again(
    connection: AsyncConnection, signal: Signal, alert_events: Collection[str], now: datetime
) -> tuple[Status, str]:
    """Read a quarantined body by this release, inside the caller's transaction.

    Returns where the signal stands then, `received` when it is understood, and what was done, in words. A body that
    has been read to its end is not kept: neither one that is understood, nor one that turns out to be no signal.
    """
    body = await quarantined_body(connection, signal.seq)
    if body is None:
        # Dropped or exported: its reason says so, and where to.
        return signal.status, f"{NOT_KEPT}: {signal.reason}" if signal.reason else NOT_KEPT
    try:
        event = _understand(body, alert_events)
    except NotUnderstood as error:
        return await _still_not_understood(connection, signal, error.reason, now)
    except Exception as error:
        # A fault of ours, as at the door: one such body must not keep the others of a bulk replay waiting.
        log.exception("replay.reading_failed", signal_id=signal.signal_id)
        return await _still_not_understood(connection, signal, f"reading it failed: {type(error).__name__}", now)
    if event is None:
        return await _set_aside(connection, signal, "read again: not a churn signal", now)
    known = (await connection.execute(select(signals.c.seq).where(signals.c.event_key == event.key))).first()
    if known:
        return await _set_aside(connection, signal, "read again: a duplicate of a signal that is already here", now)
    understood = to_arrival(event, received_at=signal.received_at, source=signal.source)
    arrival = understood._replace(signal_id=signal.signal_id)
    values = arrival_values(arrival)
    for column in ("status", "reason", "updated_at"):
        values.pop(column)
    await advance(
        connection,
        signal.seq,
        expected=(signal.status,),
        to=Status.RECEIVED,
        now=now,
        reason="read again and understood",
        **values,
    )
    await forget_body(connection, signal.seq)
    return Status.RECEIVED, "understood now; triage starts"


async def _still_not_understood(
    connection: AsyncConnection, signal: Signal, reason: str, now: datetime
) -> tuple[Status, str]:
    await connection.execute(update(signals).where(signals.c.seq == signal.seq).values(reason=reason, updated_at=now))
    return signal.status, f"still not understood: {reason}"


async def _set_aside(connection: AsyncConnection, signal: Signal, reason: str, now: datetime) -> tuple[Status, str]:
    """A body that is understood at last, and nothing for us."""
    await advance(connection, signal.seq, expected=(signal.status,), to=Status.SKIPPED, now=now, reason=reason)
    await forget_body(connection, signal.seq)
    return Status.SKIPPED, reason


def _understand(body: bytes, alert_events: Collection[str]) -> ChurnEvent | None:
    decoded = decode(body)
    if not may_be_signal(read_name(decoded), alert_events):
        return None
    event = understand(read_event(decoded), alert_events)
    return event if isinstance(event, ChurnEvent) else None
