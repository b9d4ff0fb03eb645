"""Digests: whose turn each period is, and the figures that one tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from heapq import nlargest

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.sinks.digest import Dear, Figures, Period, first_day
from churn_radar.store.at_risk import day_of, risk_since
from churn_radar.store.dialect import insert_if_new
from churn_radar.store.tables import DeliveryStatus, Status, briefs, deliveries, digests, signals

DEAREST = 5
_NEWEST = 10
_UNFINISHED = (Status.RECEIVED, Status.WAITING, Status.RESEARCHING)


async def is_over(connection: AsyncConnection, name: str, period: str) -> bool:
    """Whether nothing is left to be done for a period."""
    status = select(digests.c.status).where(digests.c.name == name, digests.c.period == period)
    return (await connection.execute(status)).scalar_one_or_none() not in (None, DeliveryStatus.PENDING)


async def claim(
    connection: AsyncConnection, name: str, period: str, *, now: datetime, lease: timedelta
) -> tuple[int, int] | None:
    """Take the digest of a period in hand for as long as the lease, if it is owed and nobody has it.

    Returns its row number and how many attempts came before; None when it is sent, given up, or in somebody's hand.
    The first time that a digest is heard of at all its period is skipped: it would tell of a time before it was wanted.
    Earlier periods that are still owed are skipped.
    """
    rows = select(digests.c.period, digests.c.status).where(digests.c.name == name)
    known = {row.period: row.status for row in await connection.execute(rows)}
    row = {
        "name": name,
        "period": period,
        "status": DeliveryStatus.PENDING if known else DeliveryStatus.SKIPPED,
        "attempts": 0,
        "due_at": now,
        "reason": None if known else "wanted only since it was due",
        "updated_at": now,
    }
    await connection.execute(insert_if_new(digests, connection.dialect), row)
    # By what they tell of: a replica whose clock is late may add an earlier period's row after the newest one.
    pending = [each for each, status in known.items() if status == DeliveryStatus.PENDING]
    if older := [each for each in pending if first_day(each) < first_day(period)]:
        await connection.execute(
            update(digests)
            .where(digests.c.name == name, digests.c.period.in_(older), digests.c.status == DeliveryStatus.PENDING)
            .values(status=DeliveryStatus.SKIPPED, reason="a newer one was due", updated_at=now)
        )
    claimed = await connection.execute(
        update(digests)
        .where(
            digests.c.name == name,
            digests.c.period == period,
            digests.c.status == DeliveryStatus.PENDING,
            digests.c.due_at <= now,
        )
        .values(due_at=now + lease, updated_at=now)
        .returning(digests.c.seq, digests.c.attempts)
    )
    found = claimed.first()
    return (found.seq, found.attempts) if found else None


async def told_periods(connection: AsyncConnection, name: str) -> Sequence[str]:
    """The newest periods of a digest that were told; before the first of them, the one since which it is wanted."""
    of_it = select(digests.c.period).where(digests.c.name == name)
    # Some: a clock that was set may have told them out of order.
    told = of_it.where(digests.c.status == DeliveryStatus.DELIVERED).order_by(digests.c.seq.desc()).limit(_NEWEST)
    found = (await connection.execute(told)).scalars().all()
    return found or (await connection.execute(of_it.order_by(digests.c.seq).limit(1))).scalars().all()


async def settle_digest(
    connection: AsyncConnection,
    seq: int,
    *,
    status: DeliveryStatus,
    attempts: int,
    now: datetime,
    due_at: datetime | None = None,
    reason: str | None = None,
) -> None:
    """Write down what became of an attempt; one that another replica has brought to its end stays there.

    That happens when the note comes later than the lease.
    """
    await connection.execute(
        update(digests)
        .where(digests.c.seq == seq, digests.c.status == DeliveryStatus.PENDING)
        .values(status=status, attempts=attempts, due_at=due_at or now, reason=reason, updated_at=now)
    )


async def read_digest_figures(
    connection: AsyncConnection, period: Period, *, currency: str, now: datetime, at_risk_days: int
) -> Figures:
    """The figures of a period."""
    within = briefs.c.created_at >= period.since, briefs.c.created_at < period.until, briefs.c.currency == currency
    kinds = await connection.execute(
        select(briefs.c.event_type, func.count(), func.sum(briefs.c.mrr)).where(*within).group_by(briefs.c.event_type)
    )
    by_kind = sorted(((kind, count, mrr) for kind, count, mrr in kinds), key=lambda each: -each[1])
    risk = await risk_since(connection, day_of(now - timedelta(days=at_risk_days)), currency=currency)
    return Figures(
        briefs=sum(count for _, count, _ in by_kind),
        brief_mrr=_money(sum(mrr for _, _, mrr in by_kind)),
        kinds={kind: count for kind, count, _ in by_kind},
        dearest=await _dearest(connection, within),
        outcomes=await _outcomes(connection, period, currency),
        at_risk=risk.total.open_briefs,
        at_risk_mrr=Decimal(risk.total.open_mrr) / 100,
        waiting=await _count(connection, signals.c.status.in_(_UNFINISHED)),
        dead=await _count(connection, signals.c.status == Status.DEAD),
        undelivered=await _count(connection, deliveries.c.status == DeliveryStatus.DEAD),
        came_back=await _count(connection, briefs.c.reminded_at.is_not(None)),
        put_aside=await _count(connection, briefs.c.snoozed_until.is_not(None)),
    )


async def _dearest(connection: AsyncConnection, within: Sequence[object]) -> list[Dear]:
    # All of the period's, from an index that holds both: to have them sorted by mrr would walk through every brief.
    found = await connection.execute(select(briefs.c.mrr, briefs.c.seq).where(*within))  # type: ignore[arg-type]
    dear = nlargest(DEAREST, found, key=lambda row: (row.mrr, -row.seq))
    rows = await connection.execute(
        select(briefs.c.seq, briefs.c.brief_id, briefs.c.persona_type, briefs.c.event_type).where(
            briefs.c.seq.in_([seq for _, seq in dear])
        )
    )
    told = {row.seq: row for row in rows}
    return [
        Dear(told[seq].brief_id, told[seq].persona_type, told[seq].event_type, _money(mrr))
        for mrr, seq in dear
        if seq in told
    ]


async def _outcomes(connection: AsyncConnection, period: Period, currency: str) -> dict[str, tuple[int, Decimal]]:
    rows = await connection.execute(
        select(briefs.c.outcome, func.count(), func.sum(briefs.c.mrr))
        .where(
            briefs.c.outcome_at >= period.since,
            briefs.c.outcome_at < period.until,
            briefs.c.outcome.is_not(None),
            briefs.c.currency == currency,
        )
        .group_by(briefs.c.outcome)
        .order_by(briefs.c.outcome)
    )
    return {outcome: (count, _money(mrr)) for outcome, count, mrr in rows}


async def _count(connection: AsyncConnection, condition: object) -> int:
    statement = select(func.count()).where(condition)  # type: ignore[arg-type]
    return int((await connection.execute(statement)).scalar_one())


def _money(amount: float) -> Decimal:
    return Decimal(str(round(amount, 2)))
