"""The reporting webhook as the workspace has it, and what has to be done to it so that it feeds this service. Pure.

Shapes: `/reporting_webhooks` of the App API.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from churn_radar.triage.kinds import BOUNCED, COMPLAINED, SUBSCRIBED, UNSUBSCRIBED

NAME = "churn_radar"

# The events of a reporting webhook by which each kind of ours is told.
_EVENTS = {
    UNSUBSCRIBED: ("customer_unsubscribed", "customer_subscription_preferences_changed", "email_unsubscribed"),
    BOUNCED: ("email_bounced", "push_bounced", "sms_bounced"),
    COMPLAINED: ("email_spammed",),
    SUBSCRIBED: ("customer_subscribed",),
}


@dataclass(frozen=True, slots=True)
class Webhook:
    """A reporting webhook; without an id it is one that does not exist yet."""

    endpoint: str
    events: tuple[str, ...]
    name: str = NAME
    id: str | None = None
    disabled: bool = False
    full_resolution: bool = False
    with_content: bool = False

    def as_body(self) -> dict[str, object]:
        """As the App API takes it."""
        return {
            "name": self.name,
            "endpoint": self.endpoint,
            "events": list(self.events),
            "disabled": self.disabled,
            "full_resolution": self.full_resolution,
            "with_content": self.with_content,
        }


def read_webhooks(payload: object) -> list[Webhook] | None:
    """The webhooks of a workspace; None when the answer holds no list of them. Odd entries are left out."""
    match payload:
        case {"reporting_webhooks": [*entries]}:
            return [webhook for entry in entries if (webhook := _read(entry))]
        case _:
            return None


def _read(entry: object) -> Webhook | None:
    match entry:
        case {"id": int() | str() as id_, "endpoint": str(endpoint), **rest}:
            events = rest.get("events")
            return Webhook(
                endpoint=endpoint,
                events=tuple(str(event) for event in events) if isinstance(events, list) else (),
                name=str(rest.get("name") or NAME),
                id=str(id_),
                disabled=rest.get("disabled") is True,
                full_resolution=rest.get("full_resolution") is True,
                with_content=rest.get("with_content") is True,
            )
        case _:
            return None


def events_for(kinds: Collection[str]) -> tuple[str, ...]:
    """What to subscribe to for these kinds of event; a kind of somebody's own goes in as a mail's metric."""
    wanted = [event for kind in sorted(kinds) for event in _EVENTS.get(kind, (f"email_{kind}",))]
    return tuple(sorted(wanted, key=lambda event: (event in _EVENTS[SUBSCRIBED], event)))


def as_wanted(existing: Collection[Webhook], endpoint: str, kinds: Collection[str]) -> Webhook:
    """The webhook for this endpoint as it should be: the one that is there, switched on and with our events, or a new.

    What somebody else has ticked stays. Of several for the same endpoint it is the first that works already.
    """
    events = events_for(kinds)
    same = sorted(same_endpoint(existing, endpoint), key=lambda webhook: webhook.disabled)
    if not same:
        return Webhook(endpoint, events)
    missing = [event for event in events if event not in same[0].events]
    return replace(same[0], disabled=False, events=(*same[0].events, *missing))


def same_endpoint(existing: Collection[Webhook], endpoint: str) -> list[Webhook]:
    """The webhooks that post to this endpoint, however its address is written."""
    return [webhook for webhook in existing if _normal(webhook.endpoint) == _normal(endpoint)]


def _normal(endpoint: str) -> tuple[str, str, str]:
    parts = urlsplit(endpoint.strip())
    host = parts.netloc.lower().rpartition("@")[2]
    port = {"https": ":443", "http": ":80"}.get(parts.scheme.lower(), "")
    return host.removesuffix(port) if port else host, parts.path.rstrip("/"), parts.query
