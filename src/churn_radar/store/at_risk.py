"""MRR at risk: which briefs count, and their sums by day, kept in the transaction that changes them.

A customer's MRR is at risk by their newest brief, until an outcome closes it; `at_risk` holds those briefs. `risk_days`
adds them up by day, persona, kind and currency, so that what is at risk is read at once however many briefs there are.
Whoever removes a brief takes it off first: the row in `at_risk` holds on to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Dialect, Insert, RowMapping, Select, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.dialect import insert_into
from churn_radar.store.tables import EPOCH, at_risk, briefs, risk_days


class Cell(NamedTuple):
    """What a row of `risk_days` adds up: the day in days since 1970 (UTC)."""

    day: int
    currency: str
    persona_type: str
    event_type: str


@dataclass(frozen=True, slots=True)
class Risk:
    """Briefs and their MRR in hundredths: all that came, and those that are still at risk."""

    briefs: int = 0
    mrr: int = 0
    open_briefs: int = 0
    open_mrr: int = 0

    def __add__(self, other: Risk) -> Risk:
        return Risk(
            self.briefs + other.briefs,
            self.mrr + other.mrr,
            self.open_briefs + other.open_briefs,
            self.open_mrr + other.open_mrr,
        )


_FIGURES = ("briefs", "mrr", "open_briefs", "open_mrr")


def day_of(moment: datetime) -> int:
    """The day of a moment, in days since 1970 (UTC)."""
    return (moment - EPOCH).days


def _cell(brief: Mapping[str, Any] | RowMapping) -> tuple[Cell, int]:
    cell = Cell(day_of(brief["created_at"]), brief["currency"], brief["persona_type"], brief["event_type"])
    return cell, round(brief["mrr"] * 100)


async def count_brief(connection: AsyncConnection, seq: int, brief: Mapping[str, Any]) -> None:
    """A new brief, by its row number and its columns: it is what its customer's MRR is at risk by from now on."""
    changes: defaultdict[Cell, Risk] = defaultdict(Risk)
    earlier = select(briefs.c.seq).where(briefs.c.customer_seq == brief["customer_seq"], briefs.c.seq < seq)
    await _take_off(connection, earlier, changes)
    cell, mrr = _cell(brief)
    changes[cell] += Risk(1, mrr, 1, mrr)
    await connection.execute(insert(at_risk).values(brief_seq=seq))
    await _add(connection, changes)


async def take_off(connection: AsyncConnection, brief_seqs: Iterable[int]) -> None:
    """These briefs are not at risk any more: an outcome closed them, or they are about to be removed."""
    changes: defaultdict[Cell, Risk] = defaultdict(Risk)
    await _take_off(connection, select(briefs.c.seq).where(briefs.c.seq.in_(list(brief_seqs))), changes)
    await _add(connection, changes)


async def unname(connection: AsyncConnection, brief_seq: int) -> None:
    """Add a brief that was taken off to where its persona is not told: for one that names a person."""
    brief = (await connection.execute(_cells().where(briefs.c.seq == brief_seq))).mappings().first()
    if brief is not None:
        cell, mrr = _cell(brief)
        await _add(connection, {cell: Risk(-1, -mrr), cell._replace(persona_type=""): Risk(1, mrr)})


async def put_back(connection: AsyncConnection, brief_seq: int) -> None:
    """The outcome that closed a brief was taken back: it counts again, if it is still its customer's newest."""
    brief = (await connection.execute(_cells().where(briefs.c.seq == brief_seq))).mappings().first()
    if brief is None:
        return
    newer = select(briefs.c.seq).where(briefs.c.customer_seq == brief["customer_seq"], briefs.c.seq > brief_seq)
    there = select(at_risk.c.brief_seq).where(at_risk.c.brief_seq == brief_seq)
    if (await connection.execute(newer.limit(1))).first() or (await connection.execute(there)).first():
        return
    cell, mrr = _cell(brief)
    await connection.execute(insert(at_risk).values(brief_seq=brief_seq))
    await _add(connection, {cell: Risk(open_briefs=1, open_mrr=mrr)})


async def is_at_risk(connection: AsyncConnection, brief_seq: int) -> bool:
    """Whether its customer's MRR is at risk by this brief."""
    there = select(at_risk.c.brief_seq).where(at_risk.c.brief_seq == brief_seq)
    return (await connection.execute(there)).first() is not None


async def keep_newest(connection: AsyncConnection, customer_seq: int) -> None:
    """Two customers have turned out to be one: only the newest of their briefs goes on counting."""
    newest = select(func.max(briefs.c.seq)).where(briefs.c.customer_seq == customer_seq).scalar_subquery()
    changes: defaultdict[Cell, Risk] = defaultdict(Risk)
    older = select(briefs.c.seq).where(briefs.c.customer_seq == customer_seq, briefs.c.seq < newest)
    await _take_off(connection, older, changes)
    await _add(connection, changes)


def _cells() -> Select[Any]:
    columns = ("customer_seq", "created_at", "currency", "persona_type", "event_type", "mrr")
    return select(*(briefs.c[name] for name in columns))


async def _take_off(connection: AsyncConnection, seqs: Select[tuple[int]], changes: defaultdict[Cell, Risk]) -> None:
    gone = await connection.execute(delete(at_risk).where(at_risk.c.brief_seq.in_(seqs)).returning(at_risk.c.brief_seq))
    taken = list(gone.scalars())
    if not taken:
        return
    for brief in (await connection.execute(_cells().where(briefs.c.seq.in_(taken)))).mappings():
        cell, mrr = _cell(brief)
        changes[cell] += Risk(open_briefs=-1, open_mrr=-mrr)


async def _add(connection: AsyncConnection, changes: Mapping[Cell, Risk]) -> None:
    # In one order, so that two transactions never wait for each other in a circle.
    for cell, risk in sorted(changes.items()):
        await connection.execute(_added(connection.dialect, cell, risk))


def _added(dialect: Dialect, cell: Cell, risk: Risk) -> Insert:
    row = insert_into(risk_days, dialect).values(**cell._asdict(), **asdict(risk))
    sums = {name: risk_days.c[name] + row.excluded[name] for name in _FIGURES}
    return row.on_conflict_do_update(index_elements=[risk_days.c[name] for name in Cell._fields], set_=sums)


@dataclass(frozen=True, slots=True)
class RiskNow:
    """What is at risk by the briefs of some days, in one currency: in all, by persona, by kind, by day."""

    total: Risk
    personas: dict[str, Risk]
    kinds: dict[str, Risk]
    days: dict[int, Risk]


async def risk_since(connection: AsyncConnection, first_day: int, *, currency: str) -> RiskNow:
    """The sums of the briefs from a day on. Personas and kinds come dearest first, days in their order."""
    within = risk_days.c.currency == currency, risk_days.c.day >= first_day
    sums = [func.sum(risk_days.c[name]) for name in _FIGURES]
    by: dict[str, dict[Any, Risk]] = {"persona_type": {}, "event_type": {}, "day": {}}
    for name, found in by.items():
        rows = await connection.execute(select(risk_days.c[name], *sums).where(*within).group_by(risk_days.c[name]))
        found.update({value: Risk(*map(int, figures)) for value, *figures in rows})
    days = dict(sorted(by["day"].items()))
    return RiskNow(sum(days.values(), Risk()), _dearest(by["persona_type"]), _dearest(by["event_type"]), days)


def _dearest(sums: dict[str, Risk]) -> dict[str, Risk]:
    return dict(sorted(sums.items(), key=lambda item: (-item[1].open_mrr, item[0])))
