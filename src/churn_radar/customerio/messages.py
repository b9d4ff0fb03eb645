"""Messages of a workspace as `GET /messages` lists them, read as the events that the door would have got. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from churn_radar.triage.kinds import COMPLAINED, METRICS

_METRIC_OF = {COMPLAINED: "spammed"}
_PARTICULARS = (
    "action_id",
    "campaign_id",
    "broadcast_id",
    "newsletter_id",
    "transactional_message_id",
    "trigger_event_id",
    "subject",
    "recipient",
    "failure_message",
)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of messages, and where the next one begins; None on the last."""

    messages: Sequence[dict[str, Any]]
    next: str | None


def metrics_for(kinds: Collection[str]) -> list[str]:
    """The metrics to ask for: `complained` is `spammed` there; what is no metric of messages is left out."""
    return sorted(metric for kind in kinds if (metric := _METRIC_OF.get(kind, kind)) in METRICS)


def read_page(payload: object) -> Page | None:
    """A page of the list; None when the answer holds none."""
    match payload:
        case {"messages": [*messages], **rest}:
            following = rest.get("next")
            return Page(
                [message for message in messages if isinstance(message, dict)],
                following if isinstance(following, str) and following else None,
            )
        case _:
            return None


def as_event(message: dict[str, Any], metric: str, since: datetime) -> dict[str, Any] | None:
    """The webhook event of this metric; None when it happened before `since`, or the message tells of none.

    It has no `event_id`: the list does not tell. The message and the kind are its identity.
    """
    moment, delivery_id = _moment(message, metric), message.get("id")
    if moment is None or moment < since or not isinstance(delivery_id, str) or not delivery_id:
        return None
    kind = message.get("type")
    particulars = {name: message[name] for name in _PARTICULARS if message.get(name) is not None}
    return {
        "object_type": kind if isinstance(kind, str) else "email",
        "metric": metric,
        "timestamp": int(moment.timestamp()),
        "data": {
            **particulars,
            "customer_id": message.get("customer_id"),
            "identifiers": message.get("customer_identifiers"),
            "delivery_id": delivery_id,
        },
    }


def _moment(message: dict[str, Any], metric: str) -> datetime | None:
    match message.get("metrics"):
        case {**metrics}:
            moment = metrics.get(metric)
            # A year that no clock has would be no moment.
            if isinstance(moment, int) and not isinstance(moment, bool) and 0 < moment < 4_102_444_800:
                return datetime.fromtimestamp(moment, UTC)
    return None
