"""Is the customer behind a churn signal worth a brief?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from churn_radar.triage.account import Account, Rules, read_account
from churn_radar.triage.persona import name_persona
from churn_radar.triage.text import clean_text, hide_mail


@dataclass(frozen=True, slots=True)
class Research:
    """Worth a brief, on how to keep this persona."""

    account: Account
    persona: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Not worth a brief; `reason` is one line for the record. `account` is None when nobody was found."""

    account: Account | None
    reason: str


Decision = Research | Skip


def triage(attributes: Mapping[str, object], rules: Rules) -> Decision:
    """Decide from a customer's attributes, as they came; any map gives a decision."""
    account = read_account(attributes, rules)
    if account.plan not in rules.research_plans:
        plan = clean_text(hide_mail(account.plan), limit=40)
        researched = ", ".join(sorted(rules.research_plans))
        return Skip(account, f'plan "{plan}" is not researched ({researched} are)')
    return Research(account, name_persona(account, rules))
