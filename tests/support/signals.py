"""Signals as the record has them, for what decides about signals and reads none."""

from __future__ import annotations

from typing import Any

from churn_radar.store.signals import Signal
from churn_radar.store.tables import Status
from churn_radar.triage.customer import CustomerRef
from tests.support.work import NOON


def a_signal(seq: int = 1, **told: Any) -> Signal:
    """An unsubscribe that has just been received; `told` replaces its fields."""
    fields: dict[str, Any] = {
        "signal_id": f"sig_{seq}",
        "event_id": None,
        "kind": "unsubscribed",
        "metric": None,
        "object_type": None,
        "customer": CustomerRef(),
        "customer_seq": None,
        "occurred_at": None,
        "received_at": NOON,
        "facts": {},
        "source": "webhook",
        "forced": False,
        "status": Status.RECEIVED,
        "reason": None,
        "attempts": 0,
        "due_at": None,
        "priority": 0,
        "triage": None,
        "joined_to": None,
        "brief_seq": None,
        "updated_at": NOON,
    }
    return Signal(seq=seq, **{**fields, **told})
