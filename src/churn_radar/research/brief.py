"""The brief: what the API answers, what every sink is handed, what the record keeps."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from churn_radar.outcome.rules import Outcome
from churn_radar.triage.consent import Consent


class AttributesSource(StrEnum):
    """Where the facts about the customer came from."""

    LIVE = "live"
    CACHED = "cached"
    NONE = "none"


class BriefSections(BaseModel):
    """The six things Mave was asked, each as Markdown, or null where the answer did not show it."""

    model_config = ConfigDict(frozen=True)

    churn_reasons: str | None = Field(None, description="Why this persona churns in this industry.")
    retention_tactics: str | None = Field(None, description="Proven tactics, with examples.")
    winback_emails: str | None = Field(None, description="Outline of three win-back mails.")
    offer: str | None = Field(None, description="An offer structure that works for the plan.")
    timing: str | None = Field(None, description="When to reach out.")
    reengagement_signals: str | None = Field(None, description="Signals of re-engagement to watch for.")


class Source(BaseModel):
    """A source that Mave names. A claim to check, not a proof; only http and https links are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    url: str
    title: str | None = None
    domain: str | None = None


class Hint(BaseModel):
    """Something the customer did since the signal that speaks of staying. A hint, no proof."""

    model_config = ConfigDict(frozen=True)

    event_type: str = Field(description="subscribed: they take mail again.")
    at: datetime


class Brief(BaseModel):
    """A research brief on how to keep one kind of customer, for one customer who may be leaving."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="Our id of the brief; receivers dedupe on it.")
    customer_id: str = Field(description="The workspace's id; for customers without one, cio_id or mail address.")
    cio_id: str | None = None
    email: str | None = None
    event_type: str = Field(description="The kind of the signal that started the research.")
    event_ids: list[str] = Field(description="Every signal that this brief answers, oldest first.")
    persona_type: str
    research_brief: str = Field(description="Markdown, as it came.")
    sections: BriefSections
    sources: list[Source]
    plan: str
    mrr: Annotated[float, Field(description="Monthly recurring revenue, in `currency`.")]
    currency: str
    industry: str | None = None
    usage_tier: str | None = None
    tenure_days: int | None = None
    last_active_at: str | None = None
    confidence: float | None = Field(None, description="Mave's own confidence, 0 to 1.")
    hallucination_risk: str | None = Field(None, description="low, medium or high, by Mave's own check.")
    unsupported_claims: list[str] = Field(default_factory=list)
    credits_used: int = Field(0, description="Mavera credits that this brief cost.")
    mave_thread_id: str | None = None
    reused_brief_id: str | None = Field(
        None,
        description="Id of the brief whose research this one builds on, by continuing its Mavera thread: another"
        " customer's, of the same persona and plan after the same kind of event. Null: researched afresh.",
    )
    clarified: bool = Field(False, description="Mave first asked a question and was told to go on.")
    consent: Consent = Field(description="What may still be sent to this person, by all their signals so far.")
    attributes_source: AttributesSource = Field(description="live, cached (App API was down or customer gone), none.")
    attributes_seen_at: datetime | None = Field(None, description="When the attributes were last read live.")
    notes: list[str] = Field(default_factory=list, description="What a reader should know, such as unreadable MRR.")
    outcome: Outcome | None = Field(
        None, description="What became of the customer, as somebody said last; null: nobody has yet."
    )
    outcome_at: datetime | None = Field(None, description="When that was said.")
    owner: str | None = Field(None, description="Who looks after this brief.")
    snoozed_until: datetime | None = Field(None, description="Put aside until then; a reminder comes then.")
    hints: list[Hint] = Field(
        default_factory=list, description="What the customer did since the signal that speaks of staying, newest last."
    )
    signal_received_at: datetime
    created_at: datetime

    def as_record(self) -> dict[str, Any]:
        """The brief as plain JSON values, the shape that every sink may write down."""
        return self.model_dump(mode="json")
