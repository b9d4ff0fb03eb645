"""How personal data is shown to whoever has not asked for it. Pure.

Operators may see the rest by asking for it, which the audit trail notes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

HEAD_BYTES = 600

# Values that say what a body is and not whom it is about.
_TELLING = frozenset({"metric", "event_type", "object_type", "timestamp", "event_id", "type", "version"})
_MAIL = re.compile(r"[^\s<>\"'(),;:]+@[^\s<>\"'(),;:]+")
# What names a value; anything else in its place may be one.
_NAME = re.compile(r'"[A-Za-z0-9_.-]{1,40}"')
_STRING = r'"(?:[^"\\]|\\.)*(?:"|$)'
# The last alternative is what JSON does not have outside of its strings: somebody's data all the same.
_MEMBER = re.compile(
    rf"(?P<key>{_STRING})(?P<colon>\s*:\s*)(?P<value>{_STRING}|-?[0-9.eE+-]+|true|false|null|(?=[\[{{]))|{_STRING}"
    r"|(?P<json>(?:(?<=[\[,])|(?<=[\[,] ))(?:true|false|null|[0-9]{1,4})(?=\s*[,\]]))|[^\s{}\[\],:]+",
    re.DOTALL,
)
# What the kind of an event is told in: a word, a number, a moment.
_WORD = re.compile(r'"?[A-Za-z0-9_.:+-]{0,40}"?')


def masked_mail(value: str | None) -> str:
    """A mail address that says whose it may be and not what it is: `j***@acme.co`."""
    if not value:
        return ""
    name, at, host = value.rpartition("@")
    return f"{name[:1]}***{at}{host}" if at else masked_id(value)


def masked_id(value: str | None) -> str:
    """An id of a customer, shortened; one that is a mail address as such."""
    if not value:
        return ""
    if "@" in value:
        return masked_mail(value)
    return f"{value[:2]}…{value[-2:]}" if len(value) > 4 else "…"


def masked_text(value: str | None) -> str:
    """Text from outside, with the mail addresses in it masked."""
    return _MAIL.sub(lambda found: masked_mail(found[0]), value or "")


def masked_body(head: bytes) -> str:
    """How a quarantined body begins: of JSON the names and what tells the kind of event, of anything else its kind."""
    text = head.decode(errors="replace")
    if not text.lstrip().startswith(("{", "[")):
        return "(empty)" if not head else "(no JSON)"
    return _MEMBER.sub(_masked_member, text)


def _masked_member(found: re.Match[str]) -> str:
    if found["json"]:
        return found[0]
    if found["key"] is None:
        return '"…"' if found[0].startswith('"') else "…"
    is_telling = found["key"].strip('"') in _TELLING and _WORD.fullmatch(found["value"])
    if is_telling or found["value"] in ("true", "false", "null"):
        return found[0]
    key = found["key"] if _NAME.fullmatch(found["key"]) else '"…"'
    hidden = {'"': '"…"', "": ""}.get(found["value"][:1], "…")
    return f"{key}{found['colon']}{hidden}"


MASKS: Mapping[str, Callable[[str | None], str]] = MappingProxyType(
    {"id": masked_id, "mail": masked_mail, "text": masked_text}
)
