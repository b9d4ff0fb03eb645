"""Whom a body names that nobody could make sense of, as far as that can be told. Pure.

Read as JSON where it is JSON, by the keys under which identifiers are found in Customer.io's events and those of older
senders; anything else is searched for mail addresses only, since an id is a number like any other there.
"""

from __future__ import annotations

import json
import re
from typing import Any

from churn_radar.triage.customer import IdType

_KEYS = {
    **dict.fromkeys(("id", "customer_id", "customerid", "user_id", "userid", "external_id"), IdType.ID),
    "cio_id": IdType.CIO_ID,
    **dict.fromkeys(("email", "email_address", "emailaddress", "recipient", "to", "mail"), IdType.EMAIL),
}
_MAIL = re.compile(r"[^\s<>(),;:\"'\\{}\[\]=&]{1,128}(?:@|%40)[^\s<>(),;:\"'\\{}\[\]=&]{1,255}")
# Deeper, or with more in it, nobody looks: whoever sends that does not mean a customer.
DEEPEST, MOST = 20, 20_000


def named_in(body: bytes) -> set[tuple[IdType, str]]:
    """The identifiers in a body, mail addresses in lower case."""
    text = body.decode(errors="replace")
    found: set[tuple[IdType, str]] = set()
    try:
        decoded = json.loads(text)
    except (ValueError, RecursionError):
        decoded = None
    waiting: list[tuple[str, Any, int]] = [("", decoded, 0)]
    looked_at = 0
    while waiting and looked_at < MOST:
        looked_at += 1
        key, value, depth = waiting.pop()
        if isinstance(value, dict) and depth < DEEPEST:
            waiting += [(str(name).lower(), inner, depth + 1) for name, inner in value.items()]
        elif isinstance(value, list) and depth < DEEPEST:
            waiting += [(key, inner, depth + 1) for inner in value]
        elif isinstance(value, str | int) and not isinstance(value, bool) and (kind := _KEYS.get(key)):
            name = str(value).strip()
            found.add((kind, name.lower() if kind is IdType.EMAIL else name))
    found |= {(IdType.EMAIL, mail.replace("%40", "@").lower()) for mail in _MAIL.findall(text)}
    return {(kind, name) for kind, name in found if name}
