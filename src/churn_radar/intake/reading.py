"""What a body whose signature was right means: something to keep, or nothing for us.

The door asks it of what comes in, and a worker once more of what comes out of a buffer.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import structlog

from churn_radar.errors import NotUnderstood
from churn_radar.intake.events import NotASignal, may_be_signal, to_arrival, to_quarantine, understand
from churn_radar.intake.payload import decode, read_event, read_name
from churn_radar.store.arrivals import Arrival
from churn_radar.triage.kinds import HINTS, event_kind

log = structlog.get_logger(__name__)


def read_body(body: bytes, alert_events: Collection[str], *, received_at: datetime) -> Arrival | NotASignal:
    """What to keep of a genuine body: its churn event, or, where it is not understood, every byte of it."""
    event_id: str | None = None
    hint = False
    try:
        decoded = decode(body)
        event_id = _event_id(decoded)
        name = read_name(decoded)
        if not may_be_signal(name, alert_events):
            return NotASignal(event_id)
        # Nobody has to look at a hint that cannot be read.
        hint = event_kind(name) in HINTS
        event = understand(read_event(decoded), alert_events)
    except NotUnderstood as error:
        if hint:
            return NotASignal(event_id)
        return to_quarantine(body, error.reason, received_at=received_at, event_id=event_id)
    except Exception as error:
        # A fault of ours must not hold the sender's feed back for an hour: the body waits for the mended release.
        log.exception("door.reading_failed", bytes=len(body))
        reason = f"reading it failed: {type(error).__name__}"
        return to_quarantine(body, reason, received_at=received_at, event_id=event_id)
    return event if isinstance(event, NotASignal) else to_arrival(event, received_at=received_at, source="webhook")


def _event_id(decoded: dict[str, Any]) -> str | None:
    """Customer.io's id of a body that was not read further, when it is a usable one."""
    value = decoded.get("event_id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value.strip() or None if isinstance(value, str) and len(value) <= 512 and "\0" not in value else None
