"""What a message to the researcher says: its facts, one a line, and the headings it asks for. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

DEFAULT_HEADINGS = (
    "Why this persona churns",
    "Retention tactics that work",
    "Win-back emails",
    "Offer structure",
    "When to reach out",
    "Signals of re-engagement",
)
_ABSENT = {"", "n/a", "none", "unknown"}


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of a message; None where it has none or says N/A. `currency` is the prefix of sums: `$`, `CHF `."""

    events: tuple[str, ...]
    persona: str | None
    mrr: Decimal | None
    currency: str
    tenure_days: int | None
    last_active: str | None
    plan: str | None
    industry: str | None

    def money(self, amount: Decimal) -> str:
        """A sum as the message writes sums: `$1,530`."""
        return f"{self.currency}{amount:,.0f}"


def read_facts(message: str) -> Facts:
    """The lines `EVENT: ...`, `PERSONA TYPE: ...` and so on, wherever in the message they stand."""
    event, tenure = _line(message, "EVENT"), _line(message, "TENURE")
    currency, mrr = _sum(_line(message, "MRR"))
    days = re.match(r"\d{1,6}", tenure or "")
    return Facts(
        events=tuple(each.strip().lower() for each in (event or "").split(",") if each.strip()),
        persona=_line(message, "PERSONA TYPE"),
        mrr=mrr,
        currency=currency,
        tenure_days=int(days[0]) if days else None,
        last_active=_line(message, "LAST ACTIVE"),
        plan=_line(message, "PLAN"),
        industry=_line(message, "INDUSTRY"),
    )


def read_headings(*messages: str) -> Sequence[str]:
    """Six headings, of the first message that has some: spelt as `## ...`, else a numbered list's bold titles.

    Where none has six, the usual ones.
    """
    for message in messages:
        hashes = re.findall(r"^##[ \t]+(\S[^\n]*?)[ \t]*$", message, re.MULTILINE)
        bold = re.findall(r"^[ \t]*\d[.)][ \t]+\*\*([^*\n]+?):?\*\*", message, re.MULTILINE)
        for found in (hashes, bold):
            if len(found) == len(DEFAULT_HEADINGS):
                return found
    return DEFAULT_HEADINGS


def _line(message: str, name: str) -> str | None:
    found = re.search(rf"^[ \t>*-]*{name}:[ \t*]*([^\n]*)$", message, re.MULTILINE)
    value = found[1].strip() if found else ""
    return None if value.lower() in _ABSENT else value


def _sum(text: str | None) -> tuple[str, Decimal | None]:
    found = re.match(r"([^\d-]{0,8})([\d,]{1,15}(?:\.\d{1,4})?)", text or "")
    if not found:
        return "", None
    try:
        amount = Decimal(found[2].replace(",", ""))
    except InvalidOperation:
        return "", None
    return found[1], amount
