"""What the rules need to know of a customer, read once from the attributes as they came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from churn_radar.triage.money import ABSENT, NOT_A_NUMBER, parse_mrr
from churn_radar.triage.text import clean_text, clean_words

_LONGEST_TENURE_DAYS = 100_000
# Between these a number is a time: seconds from 1973 on, milliseconds above what seconds reach in year 5138.
_FIRST_SECONDS = 10**8
_FIRST_MILLISECONDS = 10**11
_LAST_MILLISECONDS = 10**14


@dataclass(frozen=True, slots=True)
class AttributeNames:
    """Which customer attribute holds which fact; every workspace has its own habits."""

    plan: str = "plan_type"
    mrr: str = "mrr"
    industry: str = "industry"
    usage: str = "usage_tier"
    tenure: str = "tenure_days"
    last_active: str = "last_active_at"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of triage; the defaults are those that hold when nothing is set.

    `high_mrr` is in the account's currency per month; kinds of event and plans are in lower case.
    """

    alert_events: frozenset[str] = frozenset({"unsubscribed", "bounced", "complained"})
    research_plans: frozenset[str] = frozenset({"pro", "enterprise", "business"})
    high_mrr: Decimal = Decimal(500)
    attributes: AttributeNames = field(default_factory=AttributeNames)
    default_plan: str = "free"
    default_industry: str = "general"
    default_usage: str = "low"


@dataclass(frozen=True, slots=True)
class Account:
    """A customer as triage sees them: clean, typed, defaults applied except to `industry`.

    `mrr` is in the account's currency per month; `last_active_at` is ISO 8601 in UTC where the attribute was
    a time, else its text. `notes` say which attributes could not be read, without their values.
    """

    plan: str
    mrr: Decimal
    industry: str | None = None
    usage: str = "low"
    tenure_days: int | None = None
    last_active_at: str | None = None
    notes: tuple[str, ...] = ()

    def industry_or(self, default: str) -> str:
        """The industry, or `default` where the attribute is absent."""
        return default if self.industry is None else self.industry

    @property
    def mrr_is_known(self) -> bool:
        """False when `mrr` is 0 only because the attribute is absent or unreadable."""
        return ABSENT not in self.notes and NOT_A_NUMBER not in self.notes


def read_account(attributes: Mapping[str, object], rules: Rules) -> Account:
    """Read any map of attributes; what is absent gets its default, what is junk its default and a note."""
    names = rules.attributes
    notes: list[str] = []

    def text(name: str, fact: str) -> str | None:
        value = attributes.get(name)
        cleaned = clean_words(value)
        if cleaned is None and value is not None and not isinstance(value, str):
            notes.append(f"{fact} is not text")
        return cleaned

    plan = text(names.plan, "plan")
    industry = text(names.industry, "industry")
    usage = text(names.usage, "usage")
    mrr = parse_mrr(attributes.get(names.mrr))
    tenure, tenure_note = _tenure(attributes.get(names.tenure))
    last_active, last_active_note = _last_active(attributes.get(names.last_active))
    notes += [note for note in (mrr.note, tenure_note, last_active_note) if note]
    return Account(
        plan=(plan or rules.default_plan).lower(),
        mrr=mrr.amount,
        industry=industry,
        usage=(usage or rules.default_usage).lower(),
        tenure_days=tenure,
        last_active_at=last_active,
        notes=tuple(notes),
    )


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _number(value: object) -> float | None:
    """The number in a text or number attribute; None for everything else."""
    text = clean_text(value, limit=40)
    if text is None or not text.isascii() or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _tenure(value: object) -> tuple[int | None, str | None]:
    if _is_blank(value):
        return None, None
    days = _number(value)
    if days is None or not 0 <= days <= _LONGEST_TENURE_DAYS:
        return None, "tenure is not a number of days"
    return int(days), None


def _last_active(value: object) -> tuple[str | None, str | None]:
    """A unix time (seconds, or milliseconds as some senders have it) as ISO 8601; other text as it is.

    Small positive numbers are no plausible time (a compact date, a count of days) and stay text rather than
    become a day in 1970; zero, negative and infinite numbers and NaN mean "never" and are left out.
    """
    if _is_blank(value):
        return None, None
    number = _number(value)
    text = clean_words(value)
    if text is None or (number is not None and not 0 < number < math.inf):
        return None, "last active is not a time"
    if number is None or not _FIRST_SECONDS <= number < _LAST_MILLISECONDS:
        return text, None
    seconds = number if number < _FIRST_MILLISECONDS else number / 1000
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), None
