"""Briefs: kept once, read by customer, by id or newest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.outcome.counting import difference
from churn_radar.research.brief import Brief, Hint
from churn_radar.store.at_risk import count_brief
from churn_radar.store.brief_names import name_brief
from churn_radar.store.dialect import is_storable
from churn_radar.store.hints import Hinted, hints_since
from churn_radar.store.outcome_sums import add, counted
from churn_radar.store.tables import briefs, customers, signals
from churn_radar.triage.consent import Consent, Given, consent


@dataclass(frozen=True, slots=True)
class StoredBrief:
    """A brief and its row number."""

    seq: int
    brief: Brief


async def _stored(connection: AsyncConnection, rows: Sequence[RowMapping]) -> list[StoredBrief]:
    """Rows as briefs; the events that share each are read from the signals, so late joiners show too."""
    if not rows:
        return []
    shared: dict[int, list[str]] = {row["seq"]: [] for row in rows}
    events = await connection.execute(
        select(signals.c.brief_seq, signals.c.event_id, signals.c.signal_id)
        .where(signals.c.brief_seq.in_(shared))
        .order_by(signals.c.seq)
    )
    for brief_seq, event_id, signal_id in events:
        shared[brief_seq].append(event_id or signal_id)
    # A signal that was researched anew points at its newest brief; the earlier ones are its own all the same.
    alone = {row["signal_seq"] for row in rows if not shared[row["seq"]]}
    if alone:
        own = select(signals.c.seq, signals.c.event_id, signals.c.signal_id).where(signals.c.seq.in_(alone))
        names = {seq: event_id or signal_id for seq, event_id, signal_id in await connection.execute(own)}
        for row in rows:
            if not shared[row["seq"]]:
                shared[row["seq"]] = [names[row["signal_seq"]]]
    consents = await consent_of(connection, {row["customer_seq"] for row in rows})
    hinted = await hints_since(connection, {row["customer_seq"] for row in rows})
    return [
        StoredBrief(
            row["seq"],
            _brief(row, shared[row["seq"]], may=consents[row["customer_seq"]], hinted=hinted[row["customer_seq"]]),
        )
        for row in rows
    ]


async def consent_of(connection: AsyncConnection, customer_seqs: Collection[int]) -> dict[int, Consent]:
    """What may still be sent to some customers, by their rows, after every signal of theirs, whatever became of it."""
    of_theirs = signals.c.customer_seq, signals.c.kind, signals.c.object_type
    given: dict[int, list[Given]] = {seq: [] for seq in customer_seqs}
    for seq, kind, object_type in await connection.execute(
        select(*of_theirs).where(signals.c.customer_seq.in_(customer_seqs)).distinct()
    ):
        given[seq].append((kind, object_type))
    profiles = select(customers.c.seq, customers.c.unsubscribed).where(customers.c.seq.in_(customer_seqs))
    said = {row.seq: row.unsubscribed for row in await connection.execute(profiles)}
    return {seq: consent(kinds, unsubscribed=said.get(seq)) for seq, kinds in given.items()}


def _brief(row: RowMapping, event_ids: list[str], *, may: Consent, hinted: Sequence[Hinted]) -> Brief:
    account = row["account"]
    return Brief(
        id=row["brief_id"],
        customer_id=row["customer_id"],
        cio_id=row["cio_id"],
        email=row["email"],
        event_type=row["event_type"],
        event_ids=event_ids,
        persona_type=row["persona_type"],
        research_brief=row["research_brief"],
        sections=row["sections"],
        sources=row["sources"],
        plan=row["plan"],
        mrr=row["mrr"],
        currency=row["currency"],
        industry=account.get("industry"),
        usage_tier=account.get("usage"),
        tenure_days=account.get("tenure_days"),
        last_active_at=account.get("last_active_at"),
        confidence=row["confidence"],
        hallucination_risk=row["hallucination_risk"],
        unsupported_claims=row["unsupported_claims"],
        credits_used=row["credits_used"],
        mave_thread_id=row["mave_thread_id"],
        reused_brief_id=row["reused_brief_id"],
        clarified=row["clarified"],
        consent=may,
        attributes_source=row["attributes_source"],
        attributes_seen_at=row["attributes_seen_at"],
        notes=row["notes"],
        outcome=row["outcome"],
        outcome_at=row["outcome_at"],
        owner=row["owner"],
        snoozed_until=row["snoozed_until"],
        hints=[Hint(event_type=h.kind, at=h.at) for h in hinted if h.at >= row["signal_received_at"]],
        signal_received_at=row["signal_received_at"],
        created_at=row["created_at"],
    )


async def insert_brief(connection: AsyncConnection, values: dict[str, Any]) -> int:
    """Keep a brief, let it be found, and count it; returns its row number."""
    as_counted = counted(values)
    told = {**values, "offer_label": as_counted.offer, "counted_at": values["created_at"]}
    inserted = await connection.execute(insert(briefs).values(**told).returning(briefs.c.seq))
    seq = int(inserted.scalar_one())
    await name_brief(connection, seq, **{name: values[name] for name in ("customer_id", "cio_id", "email")})
    await add(connection, difference(None, as_counted))
    await count_brief(connection, seq, values)
    return seq


async def load_brief(connection: AsyncConnection, seq: int) -> StoredBrief | None:
    """The brief of a row number."""
    rows = (await connection.execute(select(briefs).where(briefs.c.seq == seq))).mappings().all()
    return next(iter(await _stored(connection, rows)), None)


async def brief_seq_of(connection: AsyncConnection, brief_id: str) -> int | None:
    """The row number of a brief by its public id."""
    if not is_storable(brief_id):
        return None
    found = await connection.execute(select(briefs.c.seq).where(briefs.c.brief_id == brief_id))
    return found.scalar_one_or_none()


async def prompt_of(connection: AsyncConnection, brief_id: str) -> str | None:
    """Exactly what Mave was told for a brief."""
    found = await connection.execute(select(briefs.c.prompt).where(briefs.c.brief_id == brief_id))
    return found.scalar_one_or_none()


async def list_briefs(
    connection: AsyncConnection,
    *,
    customer_seqs: Sequence[int] | None = None,
    before: int | None = None,
    limit: int,
) -> list[StoredBrief]:
    """Briefs newest first, optionally of some customers only, from before a row number on."""
    statement = select(briefs).order_by(briefs.c.seq.desc()).limit(limit)
    if customer_seqs is not None:
        statement = statement.where(or_(*(briefs.c.customer_seq == seq for seq in customer_seqs)))
    if before is not None:
        statement = statement.where(briefs.c.seq < before)
    return await _stored(connection, (await connection.execute(statement)).mappings().all())


async def recent_briefs(
    connection: AsyncConnection, customer_seqs: Collection[int], *, since: datetime
) -> dict[int, tuple[int, str]]:
    """Each customer's newest brief that is younger than `since`, as (row number, kind of its event)."""
    newest = (
        select(func.max(briefs.c.seq)).where(briefs.c.customer_seq.in_(customer_seqs)).group_by(briefs.c.customer_seq)
    )
    rows = await connection.execute(
        select(briefs.c.customer_seq, briefs.c.seq, briefs.c.event_type).where(
            briefs.c.seq.in_(newest), briefs.c.created_at > since
        )
    )
    return {customer_seq: (seq, kind) for customer_seq, seq, kind in rows}


async def kinds_of_briefs(connection: AsyncConnection, brief_seqs: Collection[int]) -> dict[int, set[str]]:
    """The kinds of event that share each brief."""
    kinds: dict[int, set[str]] = {seq: set() for seq in brief_seqs}
    rows = await connection.execute(
        select(signals.c.brief_seq, signals.c.kind).where(signals.c.brief_seq.in_(brief_seqs))
    )
    for brief_seq, kind in rows:
        kinds[brief_seq].add(kind)
    return kinds


async def public_ids(connection: AsyncConnection, seqs: Sequence[int]) -> dict[int, str]:
    """The public ids of briefs, by row number."""
    rows = await connection.execute(select(briefs.c.seq, briefs.c.brief_id).where(briefs.c.seq.in_(seqs)))
    return {row.seq: row.brief_id for row in rows}


async def briefs_of_signal(connection: AsyncConnection, signal_seq: int) -> int:
    """How many briefs a signal has led to: one, or more when somebody forced a replay."""
    statement = select(func.count()).select_from(briefs).where(briefs.c.signal_seq == signal_seq)
    return int((await connection.execute(statement)).scalar_one())
