"""Sample events, one for every kind the door knows: for `/docs`, `churn-radar send --sample` and the demo.

Their shapes are those that Customer.io documents; the people are the simulator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """A payload, and what it shows."""

    summary: str
    payload: Mapping[str, Any]


def _event(event_id: str, object_type: str, metric: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "object_type": object_type,
        "metric": metric,
        "timestamp": 1_795_500_000,
        "data": dict(data),
    }


_JANE = {
    "customer_id": "cust_1001",
    "identifiers": {"id": "cust_1001", "email": "jane@acme.co", "cio_id": "03000001"},
}
_MESSAGE = {"delivery_id": "dgTQ1AUBAAF1bJ0AAXd9sZ", "campaign_id": 23, "action_id": 96, "subject": "What is new"}

SAMPLES: Mapping[str, Sample] = {
    "unsubscribed": Sample(
        "A customer unsubscribes",
        _event("01KB2S0000SAMPLE0000000001", "customer", "unsubscribed", {**_JANE, "email_address": "jane@acme.co"}),
    ),
    "email_unsubscribed": Sample(
        "A customer unsubscribes by the link of a mail",
        _event(
            "01KB2S0000SAMPLE0000000002", "email", "unsubscribed", {**_JANE, **_MESSAGE, "recipient": "jane@acme.co"}
        ),
    ),
    "bounced": Sample(
        "A mail bounces",
        _event(
            "01KB2S0000SAMPLE0000000003",
            "email",
            "bounced",
            {
                **_JANE,
                **_MESSAGE,
                "recipient": "jane@acme.co",
                "failure_message": "550 5.1.1 User unknown",
            },
        ),
    ),
    "spammed": Sample(
        "A customer complains of spam (counts as complained)",
        _event("01KB2S0000SAMPLE0000000004", "email", "spammed", {**_JANE, **_MESSAGE, "recipient": "jane@acme.co"}),
    ),
    "preferences_changed": Sample(
        "A customer switches every topic and channel off (counts as unsubscribed)",
        _event(
            "01KB2S0000SAMPLE0000000005",
            "customer",
            "cio_subscription_preferences_changed",
            {**_JANE, "content": '{"topics":{"topic_7":false,"topic_8":false},"channels":{"email":false}}'},
        ),
    ),
    "older_form": Sample(
        "The older form: event_type, a prefixed name, the customer at the top",
        {"event_type": "email_bounced", "customer_id": "cust_1001", "timestamp": 1_795_500_000},
    ),
    "opened": Sample(
        "A mail is opened: no churn signal, ignored",
        _event("01KB2S0000SAMPLE0000000006", "email", "opened", {**_JANE, **_MESSAGE}),
    ),
}
