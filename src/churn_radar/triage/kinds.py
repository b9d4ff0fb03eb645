"""What kind of event this is, whichever of the documented forms its name came in.

Customer.io's reporting webhooks name an event in `metric` (`bounced`) beside an `object_type` (`email`);
older and hand-made events, and the webhook's own subscription list, join the two (`email_bounced`).
"""

from __future__ import annotations

from functools import lru_cache

UNSUBSCRIBED = "unsubscribed"
BOUNCED = "bounced"
COMPLAINED = "complained"
PREFERENCES_CHANGED = "cio_subscription_preferences_changed"
SUBSCRIBED = "subscribed"

# Events that speak of staying: no signals, but worth showing on a brief that waits for its end.
HINTS = frozenset({SUBSCRIBED})

OBJECT_TYPES = frozenset({"customer", "email", "push", "sms", "in_app", "slack", "webhook"})

METRICS = frozenset(
    {
        SUBSCRIBED,
        UNSUBSCRIBED,
        PREFERENCES_CHANGED,
        "drafted",
        "attempted",
        "sent",
        "delivered",
        "opened",
        "clicked",
        "converted",
        BOUNCED,
        "dropped",
        "spammed",
        COMPLAINED,
        "failed",
        "undeliverable",
    }
)

# Customer.io reports a complaint as `spammed`; the rules, like the mail trade, call it a complaint.
_SYNONYMS = {"spammed": COMPLAINED}

_PREFIXES = tuple(sorted(f"{object_type}_" for object_type in OBJECT_TYPES))


# All traffic is asked for its kind, several times each, and there are a dozen names.
@lru_cache(maxsize=256)
def event_kind(name: str) -> str:
    """The kind of event behind a name: `email_bounced`, ` Bounced ` and `bounced` are all `bounced`.

    The prefix of a known object type is taken off once; an unknown one (`whatsapp_bounced`) stays, so that
    the kind is none of the churn signals. Unknown names come back stripped and in lower case.
    """
    kind = name.strip().lower()
    if kind not in METRICS:
        for prefix in _PREFIXES:
            if kind.startswith(prefix):
                kind = kind.removeprefix(prefix)
                break
    return _SYNONYMS.get(kind, kind)


# What a signal says about staying: an address that fails says the least, a complaint the most.
_STRENGTHS = {BOUNCED: 1, UNSUBSCRIBED: 2, COMPLAINED: 3}


def strength(kind: str) -> int:
    """How strongly a kind of event speaks of leaving, to be compared with another's; kinds of one's own count least."""
    return _STRENGTHS.get(kind, 0)


def is_known_object_type(object_type: str | None) -> bool:
    """Whether events about this type of object can be churn signals; older events name none, and count."""
    if object_type is None or not object_type.strip():
        return True
    return object_type.strip().lower() in OBJECT_TYPES
