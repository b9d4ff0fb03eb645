"""What a brief is made of: whose it is, what Mave was told, and what came back, as one row of the record. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from churn_radar.research.answer import clean_sources, confidence, risk, unsupported_claims
from churn_radar.research.brief import AttributesSource
from churn_radar.research.budget import MOST_CREDITS
from churn_radar.research.mave import MaveAnswer
from churn_radar.research.reuse import Opening, reuse_note
from churn_radar.research.sections import parse_sections
from churn_radar.store.customers import KnownCustomer
from churn_radar.store.signals import Signal
from churn_radar.triage.account import Account
from churn_radar.work.triaged import Triaged


@dataclass(frozen=True, slots=True)
class Case:
    """A signal that is worth research, whose it is, and what triage found out."""

    signal: Signal
    customer: KnownCustomer
    triaged: Triaged
    account: Account
    persona: str


@dataclass(frozen=True, slots=True)
class Written:
    """Mave's answer and the prompt that led to it; `opening` is the brief whose thread was gone on in, if any."""

    prompt: str
    answer: MaveAnswer
    opening: Opening | None = None


def brief_values(case: Case, written: Written, *, currency: str, earlier: int, now: datetime) -> dict[str, Any]:
    """The columns of a brief; `earlier` is how many briefs the signal has led to before."""
    signal, account, ref = case.signal, case.account, case.customer.profile.ref
    return {
        "brief_id": _brief_id(signal.signal_id, earlier),
        "signal_seq": signal.seq,
        "customer_seq": case.customer.seq,
        "customer_id": ref.preferred[1],
        # Where the App API does not tell them, the event's own names are better than none.
        "cio_id": ref.cio_id or signal.customer.cio_id,
        "email": ref.email or signal.customer.email,
        "event_type": signal.kind,
        "persona_type": case.persona,
        "plan": account.plan,
        "mrr": float(account.mrr),
        "currency": currency,
        "account": {**asdict(account), "mrr": str(account.mrr)},
        "prompt": written.prompt,
        "attributes_source": case.triaged.attributes_source,
        "attributes_seen_at": case.triaged.attributes_seen_at,
        "notes": _notes(case, written),
        "signal_received_at": signal.received_at,
        "created_at": now,
        "reused_brief_id": written.opening.brief_id if written.opening else None,
        **_answer_values(written.answer),
    }


def _answer_values(answer: MaveAnswer) -> dict[str, Any]:
    return {
        "research_brief": answer.content,
        "sections": parse_sections(answer.content).as_dict(),
        "sources": clean_sources(answer.sources),
        "confidence": confidence(answer.validation.get("confidence_score")),
        "hallucination_risk": risk(answer.validation.get("hallucination_risk")),
        "unsupported_claims": unsupported_claims(answer.validation.get("unsupported_claims")),
        "credits_used": min(answer.credits_used, MOST_CREDITS),
        "mave_thread_id": answer.thread_id,
        "mave_message_id": answer.message_id,
        "clarified": answer.clarified,
        "extra": dict(answer.extra),
    }


def _notes(case: Case, written: Written) -> list[str]:
    """What a reader of the brief should know before relying on it."""
    notes, triaged = list(case.account.notes), case.triaged
    if triaged.attributes_source is AttributesSource.CACHED and triaged.attributes_seen_at:
        notes.append(
            "Customer.io could not show this customer now; the attributes are those last seen on "
            f"{triaged.attributes_seen_at:%Y-%m-%d %H:%M} UTC"
        )
    if written.opening is not None:
        notes.append(reuse_note(written.opening))
    if written.answer.clarified:
        notes.append("Mave asked for details first and was told to proceed on stated assumptions")
    return notes


def _brief_id(signal_id: str, earlier: int) -> str:
    """The same brief of the same signal has the same id, however often a crash makes us write it."""
    return f"brf_{hashlib.sha256(f'{signal_id}:{earlier}'.encode()).hexdigest()[:32]}"
