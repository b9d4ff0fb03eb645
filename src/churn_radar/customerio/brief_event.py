"""What Customer.io is told of a brief: one event, and a few attributes. Pure.

The event's id is a ULID (https://github.com/ulid/spec) that the brief alone decides, so Customer.io drops a second copy
of it. Values stay within what the Track API takes: an event under 32 KB, an attribute under 1,000 bytes. Names that
would steer a message (`from_address`, `recipient`, `reply_to`) are not used.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from ulid import ULID

from churn_radar.research.brief import Brief
from churn_radar.sinks.gist import gist, shorten

EVENT = "churn_brief_ready"
MOST_EVENT_BYTES = 30 * 1024
MOST_ATTRIBUTE_BYTES = 900
_LENGTHS = (4000, 2000, 1000, 300)


def event_id(brief: Brief) -> str:
    """The ULID of a brief: the time when it was made, and a hash of its id in place of chance."""
    milliseconds = int(brief.created_at.timestamp() * 1000)
    return str(ULID(milliseconds.to_bytes(6, "big") + hashlib.sha256(brief.id.encode()).digest()[:10]))


def event_of(brief: Brief, link: str | None) -> dict[str, Any]:
    """The event, as `POST /customers/{id}/events` takes it."""
    for length in _LENGTHS:
        event = _event(brief, link, length)
        if len(orjson.dumps(event)) <= MOST_EVENT_BYTES:
            return event
    return _event(brief, link, 0)


def attributes_of(brief: Brief, link: str | None) -> dict[str, Any]:
    """The attributes that a campaign or a segment may ask for."""
    told = {
        "churn_brief_at": int(brief.created_at.timestamp()),
        "churn_brief_kind": brief.event_type,
        "churn_brief_persona": brief.persona_type,
        "churn_brief_may_mail": brief.consent.may_mail.value,
        "churn_brief_link": link,
    }
    return {name: _cut(value) if isinstance(value, str) else value for name, value in told.items() if value is not None}


def _event(brief: Brief, link: str | None, length: int) -> dict[str, Any]:
    sections = brief.sections
    data = {
        "brief_id": brief.id,
        "kind": brief.event_type,
        "persona": shorten(brief.persona_type, 300),
        "plan": shorten(brief.plan, 300),
        "mrr": brief.mrr,
        "currency": brief.currency,
        "confidence": brief.confidence,
        "summary": " ".join(f"{word}: {line}" for word, line in gist(brief))[:1000],
        "offer": _text(sections.offer, length),
        "timing": _text(sections.timing, length),
        "may_mail": brief.consent.may_mail.value,
        "caution": brief.consent.mark,
        "link": link,
    }
    return {
        "name": EVENT,
        "id": event_id(brief),
        "timestamp": int(brief.created_at.timestamp()),
        "data": {name: value for name, value in data.items() if value is not None},
    }


def _text(markdown: str | None, length: int) -> str | None:
    return shorten(markdown.strip(), length) if markdown and length else None


def _cut(text: str) -> str:
    return text.encode()[:MOST_ATTRIBUTE_BYTES].decode(errors="ignore")
