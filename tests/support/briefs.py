"""A brief to send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from churn_radar.research.brief import AttributesSource, Brief, BriefSections, Source
from churn_radar.triage.consent import consent

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def a_brief(number: int = 1, **told: Any) -> Brief:
    """A brief of its own for each number; `told` replaces fields."""
    return Brief(
        **{
            "id": f"brf_{number:032x}",
            "customer_id": "cust_1001",
            "email": "jane@acme.co",
            "event_type": "unsubscribed",
            "event_ids": ["01KTESTS"],
            "persona_type": "High-MRR Fintech (Pro plan)",
            "research_brief": "## Why they churn\n\nThey do, for reasons.",
            "sections": BriefSections(churn_reasons="They do, for reasons."),
            "sources": [Source(url="https://a.example/", title="A"), Source(url="https://b.example/")],
            "plan": "pro",
            "mrr": 850.0,
            "currency": "USD",
            "tenure_days": 342,
            "consent": consent([("unsubscribed", "customer")]),
            "attributes_source": AttributesSource.LIVE,
            "signal_received_at": NOW,
            "created_at": NOW,
            **told,
        }
    )
