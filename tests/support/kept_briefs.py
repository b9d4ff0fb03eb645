"""Briefs as the record has them, for what reads many of them: a customer, a signal and a brief each."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.briefs import insert_brief
from churn_radar.store.customers import remember
from churn_radar.store.record import Record
from churn_radar.store.tables import signals
from churn_radar.triage.customer import CustomerRef, Profile
from tests.support.door import arrival, insert_into
from tests.support.work import NOON

_numbers = itertools.count(1)


def brief_values(**told: Any) -> dict[str, Any]:
    """The columns of a brief, but for those that point at other rows; `told` replaces them."""
    return {
        "brief_id": f"brf_{next(_numbers):032x}",
        "customer_id": "cust_1",
        "cio_id": None,
        "email": None,
        "event_type": "unsubscribed",
        "persona_type": "High-MRR Fintech (Pro plan)",
        "plan": "pro",
        "mrr": 850.0,
        "currency": "USD",
        "account": {"plan": "pro", "industry": "fintech", "usage": "low", "tenure_days": 342},
        "research_brief": "## Why they churn\n\nThey do.",
        "sections": {},
        "sources": [],
        "confidence": 0.7,
        "hallucination_risk": "low",
        "unsupported_claims": [],
        "credits_used": 40,
        "extra": {},
        "prompt": "EVENT: unsubscribed",
        "attributes_source": "live",
        "notes": [],
        "signal_received_at": told.get("created_at", NOON) - timedelta(minutes=1),
        "created_at": NOON,
        **told,
    }


async def keep_brief(connection: AsyncConnection, customer: str = "cust_1", **told: Any) -> int:
    """A signal of a customer and its brief, as research leaves them; returns the brief's row number."""
    values = brief_values(customer_id=customer, **told)
    at: datetime = values["signal_received_at"]
    ref = CustomerRef(customer, values["cio_id"], values["email"])
    key = f"{values['brief_id']}"
    [accepted] = await insert_into(
        connection,
        [arrival(key, kind=values["event_type"], metric=values["event_type"], customer=ref, received_at=at)],
    )
    customer_seq = await remember(connection, Profile(ref, {}), at)
    seq = await insert_brief(connection, {**values, "customer_seq": customer_seq, "signal_seq": accepted.seq})
    mine = signals.c.seq == accepted.seq
    await connection.execute(
        update(signals).where(mine).values(customer_seq=customer_seq, brief_seq=seq, status="briefed")
    )
    return seq


async def customer_of(connection: AsyncConnection, brief_seq: int) -> int:
    """The row of the customer of a brief."""
    found = await connection.execute(select(signals.c.customer_seq).where(signals.c.brief_seq == brief_seq))
    return int(found.scalars().first())  # type: ignore[arg-type]


async def keep_briefs(record: Record, *briefs: dict[str, Any]) -> list[int]:
    """Several briefs, each with its own columns; returns their row numbers."""

    async def work(connection: AsyncConnection) -> list[int]:
        return [await keep_brief(connection, **each) for each in briefs]

    return await record.write(work)
