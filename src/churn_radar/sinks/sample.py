"""A brief about nobody, to try a sink with."""

from __future__ import annotations

from datetime import datetime

from churn_radar.research.brief import AttributesSource, Brief, BriefSections, Source
from churn_radar.triage.consent import consent

NOTE = "This is a sample, sent by `churn-radar sinks test`; nobody is about to leave."


def sample_brief(now: datetime) -> Brief:
    """A whole brief, marked as a sample; a new id for each moment, so that no receiver takes it for a duplicate."""
    sections = BriefSections(
        churn_reasons="1. **They were mailed as a segment.** Every message was built for somebody else's work.",
        retention_tactics="- **A short call by a person.** It finds out more than three surveys do.",
        winback_emails="**Email 1.** Say what was changed.\n\n**Email 2.** Show it.\n\n**Email 3.** Ask.",
        offer="- **Lead with:** a month at half the price, for an hour of their time.",
        timing="Within two days, on a weekday morning.",
        reengagement_signals="- A log-in by a second person of the account.",
    )
    return Brief(
        id=f"brf_sample_{now:%Y%m%d%H%M%S%f}",
        customer_id="sample-customer",
        email="sample.customer@example.com",
        event_type="unsubscribed",
        event_ids=["sample"],
        persona_type="High-MRR Sample (Pro plan)",
        research_brief=f"**{NOTE}**\n\n## Why they churn\n\n{sections.churn_reasons}\n",
        sections=sections,
        sources=[Source(url="https://example.com/", title="An example", domain="example.com")],
        plan="pro",
        mrr=850.0,
        currency="USD",
        industry="sample",
        tenure_days=342,
        confidence=0.5,
        hallucination_risk="low",
        consent=consent([("unsubscribed", "customer")]),
        attributes_source=AttributesSource.NONE,
        notes=[NOTE],
        signal_received_at=now,
        created_at=now,
    )
