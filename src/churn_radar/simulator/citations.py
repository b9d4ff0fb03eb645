"""What a brief comes with: the sources it names and the validation figures. Invented, on example domains. No I/O."""

from __future__ import annotations

import random
import re

from churn_radar.simulator.industries import Industry

# title, domain, path, type, snippet (some sources come with none)
_SHARED = (
    (
        "Involuntary and voluntary churn by contract size",
        "subscription-almanac.example",
        "reports/churn-by-contract-size",
        "web",
        "Accounts that change their mail settings cancel two to three times as often in the following quarter.",
    ),
    (
        "Win-back sequences: what 400 tests agree on",
        "retention-review.example",
        "articles/win-back-sequences",
        "web",
        "Three touches over two weeks did as well as seven over six, with a quarter of the complaints.",
    ),
    ("Opt-outs as an early warning", "inbox-quarterly.example", "2026/opt-outs-early-warning", "news", None),
    (
        "Discounts and the second renewal",
        "pricing-notebook.example",
        "discounts-second-renewal",
        "web",
        "Price cuts without a change in use postponed the loss by a median of 4.5 months.",
    ),
    ("Search interest: cancel, pause and downgrade terms", "query-trends.example", "saas/cancel-terms", "seo", None),
    ("Retention playbook, edition 7", "knowledge.example", "retention/playbook-7", "knowledge_base", None),
)
_PERSONAS = (
    {"id": "per_retention_lead", "name": "Subscription Retention Lead"},
    {"id": "per_cfo_midmarket", "name": "Mid-market Finance Director"},
    {"id": "per_lifecycle", "name": "Lifecycle Marketer"},
    {"id": "per_skeptic", "name": "Sceptical Buyer"},
)
_CLAIMS = (
    "The renewal rate given for the first example could not be traced to a second source.",
    "The share of accounts that accept less mail comes from a vendor's own study.",
    "The break-even figure assumes a gross margin that was not stated.",
)


def find_sources(dice: random.Random, notes: Industry, industry: str) -> list[dict[str, object]]:
    """Two to six sources, the industry's own first; some with a snippet, some with a relevance between 0 and 1."""
    slug = re.sub(r"[^a-z0-9]+", "-", industry.lower()).strip("-") or "general"
    own = (notes.reading, "sector-reports.example", f"{slug}/retention", "web", None)
    chosen = [own, *dice.sample(_SHARED, dice.randint(1, 5))]
    sources = []
    for title, domain, path, kind, snippet in chosen:
        source: dict[str, object] = {
            "title": title,
            "url": f"https://{domain}/{path}",
            "domain": domain,
            "type": kind,
        }
        if snippet is not None:
            source["snippet"] = snippet
        if dice.random() < 0.5:
            source["relevance"] = round(dice.uniform(0.55, 0.97), 2)
        sources.append(source)
    return sources


def validate(dice: random.Random) -> dict[str, object]:
    """Validation figures; the confidence is sometimes of 1 and sometimes of 10, as the reference allows."""
    confidence = round(dice.uniform(0.58, 0.94), 2)
    unsupported = dice.sample(_CLAIMS, dice.choice((0, 0, 1, 2)))
    return {
        "confidence_score": confidence if dice.random() < 0.6 else round(confidence * 10, 1),
        "hallucination_risk": dice.choice(("medium", "high")) if unsupported else "low",
        "unsupported_claims": unsupported,
    }


def consult(dice: random.Random) -> list[dict[str, str]]:
    """The personas that took part: one to three."""
    return [dict(persona) for persona in dice.sample(_PERSONAS, dice.randint(1, 3))]
