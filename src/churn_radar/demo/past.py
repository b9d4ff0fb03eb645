"""The weeks before the demo's morning, for its pages to show: invented accounts, simulated research."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.outcome.rules import Outcome
from churn_radar.research.answer import clean_sources, confidence, risk, unsupported_claims
from churn_radar.research.prompt import build_prompt
from churn_radar.research.sections import parse_sections
from churn_radar.simulator.research import write_brief
from churn_radar.store.briefs import insert_brief
from churn_radar.store.customers import remember
from churn_radar.store.outcomes import assign, set_outcome
from churn_radar.store.record import Record
from churn_radar.store.tables import Status, signal_history, signals
from churn_radar.triage.account import Account, Rules
from churn_radar.triage.customer import CustomerRef, Profile
from churn_radar.triage.persona import name_persona

DAYS = 29
SEED = 11

_NAMES = "amelie ben carla dilan elena farid greta hugo ida jonas kira leon mina nils olga paulo rosa sami tara vito"
_HOSTS = "northgate lumenworks harborline finchley quarrypoint saltmarsh oakfield tidewater bluefern copperhill"
_INDUSTRIES = ("fintech", "e-commerce", "healthcare", "logistics", "education", "media")
_PLANS = (("pro", (90, 900)), ("business", (300, 2600)), ("enterprise", (900, 6400)))
_KINDS = ("unsubscribed", "unsubscribed", "unsubscribed", "bounced", "bounced", "complained")
_OWNERS = ("Ines", "Tom", "Yara")
_ENDS = (Outcome.SAVED, Outcome.SAVED, Outcome.LOST, Outcome.NOT_A_RISK, Outcome.CONTACTED)


@dataclass(frozen=True, slots=True)
class Story:
    """One account of the weeks before: who, what happened when, and what people made of it."""

    number: int
    email: str
    kind: str
    at: datetime
    account: Account
    owner: str | None
    outcome: Outcome | None


def stories(now: datetime) -> Iterator[Story]:
    """The accounts, oldest first; the same each time but for the days. Pure."""
    dice = random.Random(SEED)
    names, hosts = _NAMES.split(), _HOSTS.split()
    number = 0
    for back in range(DAYS, 0, -1):
        day = now - timedelta(days=back)
        for _ in range(dice.choice((1, 2, 3, 4)) if day.weekday() < 5 else dice.choice((0, 1))):
            number += 1
            plan, (least, most) = dice.choice(_PLANS)
            account = Account(
                plan=plan,
                mrr=Decimal(dice.randrange(least, most, 10)),
                industry=dice.choice(_INDUSTRIES),
                usage=dice.choice(("low", "medium", "high")),
                tenure_days=dice.randrange(40, 1500),
                last_active_at=f"{day - timedelta(days=dice.randrange(1, 30)):%Y-%m-%dT%H:%M:%SZ}",
            )
            is_done = dice.random() < min(0.85, back / 20)
            at = day.replace(hour=dice.randrange(7, 18), minute=dice.randrange(60))
            email = f"{names[number % len(names)]}@{dice.choice(hosts)}{number}.example"
            owner = dice.choice(_OWNERS) if is_done or dice.random() < 0.3 else None
            yield Story(number, email, dice.choice(_KINDS), at, account, owner, dice.choice(_ENDS) if is_done else None)


async def fill(record: Record, now: datetime, *, currency: str) -> int:
    """Write the weeks before into a fresh record; returns how many briefs there are then."""
    told = list(stories(now))

    async def write(connection: AsyncConnection) -> None:
        for story in told:
            await _write(connection, story, currency)

    await record.write(write)
    return len(told)


async def _write(connection: AsyncConnection, story: Story, currency: str) -> None:
    persona = name_persona(story.account, Rules())
    prompt = build_prompt(kinds=[story.kind], persona=persona, account=story.account, currency=currency)
    brief = write_brief(prompt, seed=story.number)
    ref = CustomerRef(f"past_{story.number}", None, story.email)
    customer_seq = await remember(connection, Profile(ref, {}), story.at)
    written_at = story.at + timedelta(seconds=40 + story.number % 50)
    row = await connection.execute(
        insert(signals)
        .values(
            signal_id=f"sig_past{story.number:028d}",
            event_key=f"past:{story.number}",
            kind=story.kind,
            metric=story.kind,
            object_type="customer" if story.kind == "unsubscribed" else "email",
            customer_id=ref.id,
            email=ref.email,
            customer_seq=customer_seq,
            occurred_at=story.at,
            received_at=story.at,
            source="webhook",
            forced=False,
            status=Status.BRIEFED,
            updated_at=written_at,
        )
        .returning(signals.c.seq)
    )
    signal_seq = int(row.scalar_one())
    brief_id = f"brf_past{story.number:028d}"
    brief_seq = await insert_brief(
        connection,
        {
            "brief_id": brief_id,
            "signal_seq": signal_seq,
            "customer_seq": customer_seq,
            "customer_id": ref.id,
            "cio_id": None,
            "email": ref.email,
            "event_type": story.kind,
            "persona_type": persona,
            "plan": story.account.plan,
            "mrr": float(story.account.mrr),
            "currency": currency,
            "account": {**asdict(story.account), "mrr": str(story.account.mrr)},
            "research_brief": brief.content,
            "sections": parse_sections(brief.content).as_dict(),
            "sources": clean_sources(brief.sources),
            "confidence": confidence(brief.validation.get("confidence_score")),
            "hallucination_risk": risk(brief.validation.get("hallucination_risk")),
            "unsupported_claims": unsupported_claims(brief.validation.get("unsupported_claims")),
            "credits_used": 30 + story.number % 25,
            "extra": {},
            "prompt": prompt,
            "attributes_source": "live",
            "notes": [],
            "signal_received_at": story.at,
            "created_at": written_at,
        },
    )
    await connection.execute(signals.update().where(signals.c.seq == signal_seq).values(brief_seq=brief_seq))
    steps = (Status.WAITING, Status.RESEARCHING, Status.BRIEFED)
    await connection.execute(
        insert(signal_history),
        [{"signal_seq": signal_seq, "at": written_at, "status": step, "reason": None, "attempt": 0} for step in steps],
    )
    if story.owner is not None:
        await assign(connection, brief_id, story.owner, who=story.owner, now=written_at)
    if story.outcome is not None and story.owner is not None:
        later = written_at + timedelta(hours=5 + story.number % 30)
        await set_outcome(connection, brief_id, story.outcome, who=story.owner, now=later)
