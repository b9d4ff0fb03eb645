"""Which kind of customer this is, in the few words that a researcher can work with."""

from __future__ import annotations

import re

from churn_radar.triage.account import Account, Rules

_ENTERPRISE_PLANS = frozenset({"enterprise", "business"})

# A word is a run of letters; an apostrophe inside does not end it, a hyphen or a digit does.
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


def name_persona(account: Account, rules: Rules) -> str:
    """The persona's name: the first rule that fits.

    1. MRR above `rules.high_mrr`: `High-MRR Fintech (Pro plan)`
    2. plan enterprise or business: `Enterprise Fintech (low usage)`
    3. otherwise: `Pro Fintech User`
    """
    industry = title_case(account.industry_or(rules.default_industry))
    plan = title_case(account.plan)
    if account.mrr > rules.high_mrr:
        return f"High-MRR {industry} ({plan} plan)"
    if account.plan in _ENTERPRISE_PLANS:
        return f"Enterprise {industry} ({account.usage} usage)"
    return f"{plan} {industry} User"


def title_case(text: str) -> str:
    """`e-commerce` -> `E-Commerce`, `women's health` -> `Women's Health`: str.title but for apostrophes."""
    return _WORD.sub(lambda word: word[0][:1].title() + word[0][1:].lower(), text)
