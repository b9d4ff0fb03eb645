"""The sums of the outcomes: kept in the same transaction as what they add up, and small enough to be read at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.outcome.counting import Counted, Group, Sums, difference
from churn_radar.outcome.offer import offer_label
from churn_radar.outcome.rules import Outcome
from churn_radar.outcome.summary import Counts, all_in_all, gather
from churn_radar.store.dialect import insert_into
from churn_radar.store.tables import EPOCH, UNCOUNTED, briefs, credits, outcome_sums

_FIGURES = tuple(field.name for field in fields(Sums))
_GROUP = Group._fields


def counted(row: Mapping[str, Any] | RowMapping) -> Counted:
    """A row of `briefs`, or one that is about to be, as it is counted."""
    held = row.get("counted_at") is not None
    offer = row["offer_label"] if held else offer_label((row["sections"] or {}).get("offer"))
    return Counted(
        persona=row["persona_type"],
        kind=row["event_type"],
        offer=offer,
        currency=row["currency"],
        mrr=row["mrr"],
        credits=row["credits_used"],
        signal_received_at=row["signal_received_at"],
        created_at=row["created_at"],
        outcome=Outcome(row["outcome"]) if row.get("outcome") else None,
        first_contact_at=row.get("first_contact_at"),
    )


async def recount(
    connection: AsyncConnection, brief_seq: int, before: Counted | None, after: Counted, now: datetime
) -> None:
    """Count a brief, whose row the caller holds, as `after` and no longer as `before`."""
    if before is None:
        await connection.execute(
            update(briefs).where(briefs.c.seq == brief_seq).values(counted_at=now, offer_label=after.offer)
        )
    await add(connection, difference(before, after))


async def add(connection: AsyncConnection, change: Mapping[Group, Sums]) -> None:
    """Add to the sums; what is taken away is less than nothing."""
    # In one order, so that two transactions rarely wait for each other in a circle.
    for group, sums in sorted(change.items(), key=lambda each: each[0]):
        row = insert_into(outcome_sums, connection.dialect).values(**group._asdict(), **asdict(sums))
        await connection.execute(
            row.on_conflict_do_update(
                index_elements=[outcome_sums.c[name] for name in _GROUP],
                set_={name: outcome_sums.c[name] + row.excluded[name] for name in _FIGURES},
            )
        )


async def count_new(connection: AsyncConnection, *, limit: int, now: datetime) -> int:
    """Count briefs that the sums do not hold yet, oldest first, at most so many; returns how many those were."""
    rows = await connection.execute(
        select(briefs)
        .where(text(UNCOUNTED))
        .order_by(briefs.c.seq)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    found = rows.mappings().all()
    for row in found:
        await recount(connection, row["seq"], None, counted(row), now)
    return len(found)


async def leave_out(connection: AsyncConnection, brief_seq: int) -> None:
    """Move a brief, whose row the caller holds, to where its persona is not told: for one that names a person."""
    row = (await connection.execute(select(briefs).where(briefs.c.seq == brief_seq))).mappings().first()
    if row is not None and row["counted_at"] is not None:
        before = counted(row)
        await add(connection, {before.group: -before.sums, before.group._replace(persona=""): before.sums})


@dataclass(frozen=True, slots=True)
class Figures:
    """The outcomes of the briefs of some days, and the credits that those days have cost, what was lost among them."""

    by_persona: list[Counts]
    by_kind: list[Counts]
    by_offer: list[Counts]
    credits_spent: int

    @property
    def total(self) -> list[Counts]:
        """All in all, one entry for each currency."""
        return all_in_all(self.by_kind)


async def read_figures(connection: AsyncConnection, *, first_day: int, last_day: int) -> Figures:
    """The figures of the briefs of these days, both included (see `day_number`)."""
    persona, kind, offer = [
        await _sums_by(connection, column, first_day=first_day, last_day=last_day)
        for column in ("persona", "kind", "offer")
    ]
    return Figures(persona, kind, offer, await _spent(connection, first_day, last_day))


async def _sums_by(connection: AsyncConnection, column: str, *, first_day: int, last_day: int) -> list[Counts]:
    by = outcome_sums.c[column]
    statement = (
        select(by, outcome_sums.c.currency, outcome_sums.c.outcome, *_summed())
        .where(outcome_sums.c.day >= first_day, outcome_sums.c.day <= last_day)
        .group_by(by, outcome_sums.c.currency, outcome_sums.c.outcome)
    )
    return await _read(connection, statement)


async def offers_to_persona(connection: AsyncConnection, persona: str, *, first_day: int) -> list[Counts]:
    """What became of one persona's customers since a day, by offer."""
    statement = (
        select(outcome_sums.c.offer, outcome_sums.c.currency, outcome_sums.c.outcome, *_summed())
        .where(outcome_sums.c.persona == persona, outcome_sums.c.day >= first_day)
        .group_by(outcome_sums.c.offer, outcome_sums.c.currency, outcome_sums.c.outcome)
    )
    return await _read(connection, statement)


async def _spent(connection: AsyncConnection, first_day: int, last_day: int) -> int:
    since, until = (EPOCH + timedelta(days=day) for day in (first_day, last_day + 1))
    spent = select(func.sum(credits.c.amount)).where(credits.c.spent_at >= since, credits.c.spent_at < until)
    return int((await connection.execute(spent)).scalar() or 0)


def _summed() -> list[Any]:
    return [func.sum(outcome_sums.c[name]).label(name) for name in _FIGURES]


async def _read(connection: AsyncConnection, statement: Select[Any]) -> list[Counts]:
    rows = []
    for value, currency, outcome, *figures in await connection.execute(statement):
        sums = Sums(*(int(figure or 0) for figure in figures))
        if sums.briefs:
            rows.append((value, currency, Outcome(outcome) if outcome else None, sums))
    return gather(rows)
