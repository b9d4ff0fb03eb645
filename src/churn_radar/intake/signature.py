"""Is this body genuinely from Customer.io? Pure: bytes in, verdict out.

Two schemes, by Customer.io's documentation. Current: `X-CIO-Timestamp` and `X-CIO-Signature`, the hex
HMAC-SHA256 of `v0:<timestamp>:<raw body>`. Older, where no timestamp header is sent: the hex HMAC-SHA256 of
the raw body alone. A request that carries a timestamp header is judged by the current scheme only, so nobody
can strip the timestamp's protection by choosing the scheme.

Age is never a reason to refuse: whether a retry carries a fresh timestamp is not documented, retries go on
for seven days, and refusing one holds the whole feed back. The permanent event key guards against replays.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

_HEX = re.compile(rb"[0-9a-f]{64}")
_PREFIX = b"v0:"
CLOCK_TOLERANCE_SECONDS = 8 * 24 * 3600


class SignedBody(NamedTuple):
    """A body whose signature has been checked. Only `verify` (or a trusted caller) makes one."""

    body: bytes


class Refusal(StrEnum):
    """The likely cause of a refused signature: what to tell the operator, never the value."""

    NO_HEADER = "no X-CIO-Signature header: not from Customer.io, or a proxy drops the header"
    REPEATED_HEADER = "a signature header is there more than once: a proxy may be adding its own"
    NOT_HEX = "X-CIO-Signature is not 64 hex digits: not a Customer.io signature"
    OLDER_SCHEME = "signed by the older scheme (body alone) although a timestamp was sent: update the sender"
    STRIPPED_TIMESTAMP = "signed with a timestamp that did not arrive: a proxy drops X-CIO-Timestamp"
    CLOCK = "the timestamp is far from this machine's clock: check the clock, or somebody replays old requests"
    KEY_OR_BODY = "the signing key is not this webhook's, or a proxy changed the body on its way"


def sign(secret: bytes, body: bytes, timestamp: bytes | None) -> str:
    """The signature that Customer.io would send: current scheme with a timestamp, older without."""
    message = body if timestamp is None else b"%s%s:%s" % (_PREFIX, timestamp, body)
    return hmac.digest(secret, message, "sha256").hex()


def verify(
    body: bytes,
    *,
    signatures: Sequence[bytes],
    timestamps: Sequence[bytes],
    secrets: Sequence[bytes],
    now: float,
) -> SignedBody | Refusal:
    """Check a raw body against every secret in force, in constant time for each.

    `signatures` and `timestamps` are the values of the two headers, as often as they were sent; `now` (unix
    seconds) only helps to name the likely cause of a refusal.
    """
    if not signatures:
        return Refusal.NO_HEADER
    if len(signatures) > 1 or len(timestamps) > 1:
        return Refusal.REPEATED_HEADER
    given = signatures[0].strip().lower().removeprefix(b"v0=")
    if not _HEX.fullmatch(given):
        return Refusal.NOT_HEX
    timestamp = timestamps[0].strip() if timestamps else None
    if timestamp is None and body.startswith(_PREFIX):
        # `v0:<timestamp>:<body>` sent as a body would carry a current signature into the older scheme.
        return Refusal.STRIPPED_TIMESTAMP
    matched = False
    for secret in secrets:
        # No early exit: the time taken does not tell which secret matched.
        matched |= hmac.compare_digest(sign(secret, body, timestamp).encode(), given)
    return SignedBody(body) if matched else _likely_cause(body, given, timestamp, secrets, now)


def _likely_cause(body: bytes, given: bytes, timestamp: bytes | None, secrets: Sequence[bytes], now: float) -> Refusal:
    if timestamp is None:
        return Refusal.KEY_OR_BODY
    if any(hmac.compare_digest(sign(secret, body, None).encode(), given) for secret in secrets):
        return Refusal.OLDER_SCHEME
    if not timestamp.isdigit() or len(timestamp) > 12 or abs(int(timestamp) - now) > CLOCK_TOLERANCE_SECONDS:
        return Refusal.CLOCK
    return Refusal.KEY_OR_BODY
