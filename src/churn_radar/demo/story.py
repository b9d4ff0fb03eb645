"""The story that the demo plays: a morning's webhooks, in half a minute. Data only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

BASE_TIME = 1_795_500_000


class Manner(StrEnum):
    """How a scene's body is sent."""

    SIGNED = "signed"
    OLDER = "older"
    FORGED = "forged"


@dataclass(frozen=True, slots=True)
class Scene:
    """One request at the door: what is told, what is sent, what must come of it.

    `expects` is the door's answer; `becomes` the status its signal must end in, for accepted ones.
    """

    told: str
    body: bytes
    expects: str
    becomes: str | None = None
    manner: Manner = Manner.SIGNED
    pause_seconds: float = 0.7


def _event(number: int, object_type: str, metric: str, **data: Any) -> Mapping[str, Any]:
    return {
        "event_id": f"01KB2SDEMO{number:016d}",
        "object_type": object_type,
        "metric": metric,
        "timestamp": BASE_TIME + number * 37,
        "data": data,
    }


def _who(customer_id: str, email: str | None = None) -> dict[str, Any]:
    return {"customer_id": customer_id, "identifiers": {"id": customer_id, "email": email, "cio_id": None}}


def _body(payload: Mapping[str, Any]) -> bytes:
    return json.dumps(payload).encode()


_JANE = _body(_event(2, "customer", "unsubscribed", **_who("cust_1001", "jane@acme.co"), email_address="jane@acme.co"))

STORY: tuple[Scene, ...] = (
    Scene(
        "jane@acme.co opens the newsletter",
        _body(_event(1, "email", "opened", **_who("cust_1001", "jane@acme.co"), campaign_id=23)),
        expects="ignored",
    ),
    Scene("jane@acme.co unsubscribes", _JANE, expects="accepted", becomes="briefed"),
    Scene("Customer.io sends the same event again", _JANE, expects="duplicate"),
    Scene(
        "a customer on the free plan unsubscribes",
        _body(_event(3, "email", "unsubscribed", **_who("cust_1007", "hello@moonjar.example"), campaign_id=23)),
        expects="accepted",
        becomes="skipped",
    ),
    Scene(
        "a mail bounces; the customer is known by the address only",
        _body(
            _event(
                4,
                "email",
                "bounced",
                customer_id=None,
                identifiers={"id": None, "email": "ops+eu@trailhead.example", "cio_id": None},
                recipient="ops+eu@trailhead.example",
                failure_message="550 5.1.1 User unknown",
                campaign_id=23,
            )
        ),
        expects="accepted",
        becomes="briefed",
    ),
    Scene(
        "an enterprise customer complains of spam",
        _body(_event(5, "email", "spammed", **_who("cust_1003", "priya@coinharbor.example"), campaign_id=23)),
        expects="accepted",
        becomes="briefed",
    ),
    Scene(
        "somebody posts a forged event",
        _body(_event(6, "customer", "unsubscribed", **_who("cust_1010"))),
        expects="refused",
        manner=Manner.FORGED,
    ),
    Scene(
        "an older integration reports an unsubscribe in the older form",
        _body({"event_type": "customer_unsubscribed", "customer_id": "cust_1021", "timestamp": BASE_TIME + 260}),
        expects="accepted",
        becomes="briefed",
        manner=Manner.OLDER,
    ),
    Scene(
        "a customer switches one topic off, keeps the rest",
        _body(
            _event(
                8,
                "customer",
                "cio_subscription_preferences_changed",
                **_who("cust_1016"),
                content='{"topics":{"topic_7":false,"topic_8":true},"channels":{"email":true}}',
            )
        ),
        expects="ignored",
    ),
    Scene(
        "another switches everything off",
        _body(
            _event(
                9,
                "customer",
                "cio_subscription_preferences_changed",
                **_who("cust_1008", "dana.whitlock@bigbarn.example"),
                content='{"topics":{"topic_7":false,"topic_8":false},"channels":{"email":false}}',
            )
        ),
        expects="accepted",
        becomes="briefed",
    ),
    Scene(
        "a customer known by cio_id only unsubscribes",
        _body(
            _event(
                13,
                "email",
                "unsubscribed",
                customer_id="",
                identifiers={"id": None, "email": None, "cio_id": "03000024"},
                campaign_id=23,
            )
        ),
        expects="accepted",
        becomes="briefed",
    ),
    Scene(
        "jane@acme.co's next mail bounces: one customer, one brief",
        _body(_event(10, "email", "bounced", **_who("cust_1001", "jane@acme.co"), recipient="jane@acme.co")),
        expects="accepted",
        becomes="joined",
    ),
    Scene(
        "a signed body arrives that nobody understands",
        b'{"signal": "unsubscribed", "who": ["cust_1001"]}',
        expects="quarantined",
    ),
    Scene(
        "a customer who was deleted meanwhile complains",
        _body(_event(12, "email", "spammed", **_who("cust_0815"))),
        expects="accepted",
        becomes="skipped",
    ),
)
