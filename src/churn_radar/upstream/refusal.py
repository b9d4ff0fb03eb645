"""What an upstream's "no" means, decided from its status, headers and body. Pure: no network, no clock.

The documented rules (Mavera's guide to errors, Customer.io's App API reference): 429, 500, 502, 503 and 504 may
pass; 401 and 402 are the operator's to mend; 400, 403 and the like stay wrong however often they are repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from churn_radar.errors import GiveUp, OperatorMustAct, RetryLater, UpstreamError

LONGEST_RETRY_AFTER = timedelta(days=1)
TEXT_CHARACTERS = 200
# An echo of this many characters is no accident: shorter runs occur in any two English texts.
ECHO_CHARACTERS = 24
REMOVED = "[removed]"

TOO_MANY = 429
_REQUEST_TIMEOUT = 408
_OPERATOR = {401: "the key was refused", 402: "credits or budget are spent"}
_MAIL_ADDRESS = re.compile(r"[^\s@]+(?:@|%40)[^\s@]+")
_NOT_PRINTABLE = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def refusal(
    service: str,
    host: str,
    status: int,
    *,
    payload: object,
    retry_after: timedelta | None,
    key_name: str,
    sent: Iterable[str] = (),
) -> UpstreamError:
    """The error that stands for an answer that is not a success.

    `payload` is the decoded body, or None when it was no JSON; `sent` are the private values of the request,
    which the text must not repeat. A status this release does not know counts as the first of its class
    (RFC 9110, section 15), so any 5xx may pass and any 4xx will not.
    """
    said = error_text(payload, sent)
    message = f"{host} answered {status}" + (f": {said}" if said else "")
    if 300 <= status < 400:
        return GiveUp(service, f"{host} answered {status}: redirects are not followed", status=status)
    if status in _OPERATOR:
        return OperatorMustAct(service, f"{message} ({_OPERATOR[status]}: see {key_name})", status=status)
    if status in (_REQUEST_TIMEOUT, TOO_MANY) or status >= 500:
        return RetryLater(service, message, status=status, retry_after=retry_after)
    return GiveUp(service, message, status=status)


def read_retry_after(value: str | None, *, now: float) -> timedelta | None:
    """Read a `Retry-After` header: seconds or an HTTP date (RFC 9110, section 10.2.3); None when it is neither.

    `now` is in unix seconds. A moment that has passed is no wait; more than a day is cut to a day.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text):
        return min(timedelta(seconds=float(text)), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(aware - datetime.fromtimestamp(now, UTC), timedelta(0)), LONGEST_RETRY_AFTER)


def error_text(payload: object, sent: Iterable[str] = ()) -> str:
    """The upstream's own words, fit for a log line; empty when it gave none.

    Reads `{"errors": [{"detail"}]}` and `{"meta": {"error"}}` (Customer.io) and `{"error": {"message", "code"}}`
    (Mavera). One line of at most 200 characters, without mail addresses and without anything of `sent`.
    """
    return _clean(_words(payload), tuple(sent))


def _words(payload: object, depth: int = 4) -> str:
    match payload:
        case _ if depth == 0:
            return ""
        case {"errors": [inner, *_]} | {"meta": {"error": inner}} | {"meta": {"errors": [inner, *_]}}:
            return _words(inner, depth - 1)
        case {"error": inner}:
            return _words(inner, depth - 1)
        case {"code": str(code), "message": str(message)}:
            return f"{code}: {message}"
        case {"detail": str(text)} | {"message": str(text)} | {"code": str(text)} | str(text):
            return text
        case _:
            return ""


def _clean(text: str, sent: tuple[str, ...]) -> str:
    # Cut first: the patterns below would take quadratic time on a body of megabytes without a space.
    line = " ".join(_NOT_PRINTABLE.sub(" ", text[: TEXT_CHARACTERS * 10]).split())
    for value in sent:
        for form in {value, quote(value, safe="", errors="replace")} - {""}:
            line = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", REMOVED, line, flags=re.IGNORECASE)
    line = _MAIL_ADDRESS.sub(REMOVED, line)
    if any(_repeats(line, value) for value in sent):
        return "(its text is left out: it repeats what was sent)"
    return line if len(line) <= TEXT_CHARACTERS else line[: TEXT_CHARACTERS - 1] + "…"


def _repeats(line: str, value: str) -> bool:
    said, flat = line.lower(), " ".join(value.lower().split())
    return any(said[i : i + ECHO_CHARACTERS] in flat for i in range(len(said) - ECHO_CHARACTERS + 1))
