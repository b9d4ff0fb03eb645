"""From a decoded body to a decision: a churn event, or nothing for us. Pure.

The same event gives the same churn event, with the same permanent key, whichever form it came in: `metric` or
`event_type`, prefixed or not, the customer's id here or there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from churn_radar.errors import NotUnderstood
from churn_radar.intake.payload import Event, EventData, Identifiers, particular
from churn_radar.store.arrivals import Arrival
from churn_radar.triage.customer import CustomerRef
from churn_radar.triage.kinds import HINTS, PREFERENCES_CHANGED, UNSUBSCRIBED, event_kind, is_known_object_type
from churn_radar.triage.preferences import PreferenceChange, read_preferences

NOT_STORABLE = "the record would not take it"

CUSTOMER = "customer"
_KEY_CHARACTERS = 32
# Of a ULID: ten of milliseconds, and then sixteen of chance.
_TIME_CHARACTERS = 10
_NO_NAMES = Identifiers()

# Particulars worth keeping with a signal: enough to find the message again, nothing of its body.
_FACTS = frozenset(
    {
        "delivery_id",
        "action_id",
        "campaign_id",
        "broadcast_id",
        "newsletter_id",
        "transactional_message_id",
        "trigger_id",
        "trigger_event_id",
        "template_id",
        "subject",
        "failure_message",
    }
)


class ChurnEvent(NamedTuple):
    """A genuine churn event: what happened, to whom, when, and the key it is known by for good."""

    key: str
    event_id: str | None
    kind: str
    metric: str
    object_type: str | None
    customer: CustomerRef
    occurred_at: datetime | None
    facts: Mapping[str, str]


class NotASignal(NamedTuple):
    """A genuine event that says nothing about churn."""

    event_id: str | None


def may_be_signal(name: str, alert_events: Collection[str]) -> bool:
    """Whether an event of this name can be a churn signal at all; cheap, asked of all traffic."""
    kind = event_kind(name)
    return kind in alert_events or (kind == PREFERENCES_CHANGED and UNSUBSCRIBED in alert_events)


def understand(event: Event, alert_events: Collection[str]) -> ChurnEvent | NotASignal:
    """Decide what an event means.

    Raises NotUnderstood for a churn event that names no customer, or whose preference switches cannot be
    read: better kept for a person to look at than guessed or dropped.
    """
    name = event.metric or event.event_type
    if name is None:
        raise NotUnderstood("neither metric nor event_type names the event")
    if not may_be_signal(name, alert_events) or not is_known_object_type(event.object_type):
        return NotASignal(event.event_id or None)
    kind = event_kind(name)
    if kind == PREFERENCES_CHANGED:
        content = event.data.content if event.data else None
        if read_preferences(content) is PreferenceChange.PARTLY_ON:
            return NotASignal(event.event_id or None)
        kind = UNSUBSCRIBED
    if kind in HINTS and (event.object_type or CUSTOMER).strip().lower() != CUSTOMER:
        # Of a topic or a channel, perhaps: only the customer as a whole has come back.
        return NotASignal(event.event_id or None)
    customer = _customer(event)
    facts = _particulars(event.data) if event.data else {}
    return ChurnEvent(
        key=_key(event, kind, customer, facts),
        event_id=event.event_id or None,
        kind=kind,
        metric=name,
        object_type=event.object_type or None,
        customer=customer,
        occurred_at=event.timestamp,
        facts=facts,
    )


def _customer(event: Event) -> CustomerRef:
    """Who the event is about: `data` first (current form), then the top level (older and hand-made events)."""
    data = event.data
    inner = (data and data.identifiers) or _NO_NAMES
    outer = event.identifiers or _NO_NAMES
    customer_id = (data and data.customer_id) or inner.id or event.customer_id or outer.id
    cio_id = inner.cio_id or outer.cio_id
    email = inner.email or outer.email or (data and data.email_address)
    if not (customer_id or cio_id or email) and data and data.recipient and "@" in data.recipient:
        # Only when nothing else names the customer: a message may go to another address than theirs.
        email = data.recipient
    if not (customer_id or cio_id or email):
        raise NotUnderstood("the event names no customer")
    return CustomerRef(customer_id or None, cio_id or None, email or None)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_KEY_CHARACTERS]


def _particulars(data: EventData) -> dict[str, str]:
    present = _FACTS & data.model_fields_set
    return {name: text for name in present if (text := particular(getattr(data, name))) is not None}


def _key(event: Event, kind: str, customer: CustomerRef, facts: Mapping[str, str]) -> str:
    """The permanent key: event id, kind and customer together, since sample events reuse an id across kinds.

    Without an event id the facts of the event are its identity, so a byte-identical retry is still known.

    It begins as the event id does, which in Customer.io's ids (ULIDs) is the time: keys of events that come together
    stand together in the indexes. Without that every event would touch pages of its own, in each of two indexes.
    """
    if event.event_id:
        begins = event.event_id[:_TIME_CHARACTERS]
        digest = _digest("id", event.event_id, kind, customer.key)
        # Asked before it is made lower case: the sign for kelvin is no ASCII, and becomes a k.
        return (begins.lower() + digest)[:_KEY_CHARACTERS] if begins.isascii() and begins.isalnum() else digest
    data = event.data
    addresses = {"email_address": data and data.email_address, "recipient": data and data.recipient}
    known = {**facts, **{name: address for name, address in addresses.items() if address}}
    moment = event.timestamp.timestamp() if event.timestamp else None
    return _digest("facts", kind, customer.key, moment, known)


def about_message(event: ChurnEvent) -> ChurnEvent:
    """The same event known by its message and kind alone, since a list of messages tells no event ids."""
    return event._replace(key=_digest("message", event.facts["delivery_id"], event.kind))


def to_arrival(event: ChurnEvent, *, received_at: datetime, source: str, force_salt: str | None = None) -> Arrival:
    """A churn event as the record keeps it; with a `force_salt`, as an event of its own, never a duplicate."""
    key = event.key if force_salt is None else _digest("forced", event.key, force_salt)
    return Arrival(
        event_key=key,
        signal_id=f"sig_{key}",
        received_at=received_at,
        source=source,
        event_id=event.event_id,
        kind=event.kind,
        metric=event.metric,
        object_type=event.object_type,
        customer=event.customer,
        occurred_at=event.occurred_at,
        facts=event.facts,
        forced=force_salt is not None,
    )


def to_quarantine(body: bytes, reason: str, *, received_at: datetime, event_id: str | None) -> Arrival:
    """A genuine body that was not understood, as the record keeps it: every byte, once."""
    key = hashlib.sha256(b"quarantine\0" + body).hexdigest()[:32]
    return Arrival(
        event_key=f"q{key}",
        signal_id=f"qua_{key}",
        received_at=received_at,
        source="webhook",
        event_id=event_id,
        reason=reason,
        body=body,
    )
