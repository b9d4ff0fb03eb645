"""Looking for briefs, dearest first: by customer, persona, plan, kind, MRR, date, outcome and owner, page by page.

Without a customer the index of the dearest is read from the top, with all that is asked of a brief in it, and never
more than so many of its entries for one page: what that costs is bounded, whatever is looked for and however many
briefs there are. A customer's briefs are few; those are read and put in order here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, exists, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.brief_names import briefs_named
from churn_radar.store.briefs import consent_of
from churn_radar.store.customers import customers_named
from churn_radar.store.dialect import is_storable
from churn_radar.store.tables import at_risk, briefs, signals
from churn_radar.triage.consent import Consent

# On a busy machine 100,000 took 0.28 s where nothing fitted, most of it for comparing personas.
MOST_LOOKED_AT = 20_000
NONE_YET = "none"
# Above every MRR (see `churn_radar.triage.money`).
_ABOVE_ALL = 1e12


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a brief; None asks nothing. Texts are compared in lower case."""

    customer: str | None = None
    persona: str | None = None
    plan: str | None = None
    kind: str | None = None
    mrr_from: float | None = None
    mrr_to: float | None = None
    since: datetime | None = None
    before: datetime | None = None
    at_risk: bool = False
    # One of `churn_radar.outcome.rules.Outcome`, or NONE_YET.
    outcome: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """How far a list has been read: the MRR and the row number of the last brief looked at."""

    mrr: float
    seq: int


class _Entry(NamedTuple):
    """What the index of the dearest holds of a brief, in the order of the list."""

    mrr: float
    seq: int
    event_type: str
    plan: str
    persona_type: str
    created_at: datetime
    outcome: str | None
    owner: str | None

    @property
    def place(self) -> Place:
        return Place(self.mrr, self.seq)


_ENTRY = tuple(briefs.c[name] for name in _Entry._fields)


@dataclass(frozen=True, slots=True)
class BriefLine:
    """A brief as a list shows it."""

    seq: int
    brief_id: str
    customer_id: str
    email: str | None
    persona_type: str
    plan: str
    kind: str
    mrr: float
    currency: str
    created_at: datetime
    is_at_risk: bool
    outcome: str | None
    owner: str | None
    signals: int
    consent: Consent


@dataclass(frozen=True, slots=True)
class Found:
    """A page of briefs, and where to go on; `is_cut` when that is because enough have been looked at for one page."""

    lines: list[BriefLine]
    further: Place | None
    is_cut: bool = False


async def search_briefs(connection: AsyncConnection, wanted: Wanted, *, after: Place | None, limit: int) -> Found:
    """A page of the briefs that are wanted, dearest first and of the equally dear the newest first."""
    if not all(is_storable(text) for text in (wanted.persona, wanted.plan, wanted.kind, wanted.owner) if text):
        return Found([], None)
    if wanted.customer is not None:
        entries, floor = await _of_customer(connection, wanted, after), None
    else:
        floor = await _floor(connection, wanted, after)
        entries = await _dearest(connection, wanted, after, floor, limit + 1)
    page = entries[:limit]
    lines = await _lines(connection, page)
    if len(entries) > limit:
        return Found(lines, page[-1].place)
    return Found(lines, floor, is_cut=floor is not None)


def _order() -> ColumnElement[Any]:
    return tuple_(briefs.c.mrr, briefs.c.seq)


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    """What a brief has to be; on columns of the index of the dearest only, so that no brief itself is read for it."""
    asked: list[ColumnElement[bool]] = []
    if wanted.persona:
        asked.append(func.lower(briefs.c.persona_type).contains(wanted.persona.lower(), autoescape=True))
    if wanted.plan:
        asked.append(briefs.c.plan == wanted.plan.lower())
    if wanted.kind:
        asked.append(briefs.c.event_type == wanted.kind.lower())
    if wanted.mrr_from is not None:
        asked.append(briefs.c.mrr >= wanted.mrr_from)
    if wanted.mrr_to is not None:
        asked.append(briefs.c.mrr <= wanted.mrr_to)
    if wanted.since is not None:
        asked.append(briefs.c.created_at >= wanted.since)
    if wanted.before is not None:
        asked.append(briefs.c.created_at < wanted.before)
    if wanted.outcome:
        asked.append(briefs.c.outcome.is_(None) if wanted.outcome == NONE_YET else briefs.c.outcome == wanted.outcome)
    if wanted.owner:
        asked.append(func.lower(briefs.c.owner) == wanted.owner.lower())
    if wanted.at_risk:
        asked.append(exists().where(at_risk.c.brief_seq == briefs.c.seq))
    return asked


def _beginning(statement: Select[Any], wanted: Wanted, after: Place | None) -> Select[Any]:
    """From where the index is read: what is dearer has been shown, or is not asked for."""
    if after is not None:
        return statement.where(_order() < tuple_(after.mrr, after.seq))
    return statement.where(briefs.c.mrr <= (_ABOVE_ALL if wanted.mrr_to is None else wanted.mrr_to))


async def _floor(connection: AsyncConnection, wanted: Wanted, after: Place | None) -> Place | None:
    """The last brief that may be looked at for this page; None when there are not as many."""
    downwards = select(briefs.c.mrr, briefs.c.seq).order_by(briefs.c.mrr.desc(), briefs.c.seq.desc())
    last = _beginning(downwards, wanted, after).offset(MOST_LOOKED_AT - 1).limit(1)
    row = (await connection.execute(last)).first()
    return Place(*row) if row else None


async def _dearest(
    connection: AsyncConnection, wanted: Wanted, after: Place | None, floor: Place | None, limit: int
) -> list[_Entry]:
    statement = _beginning(select(*_ENTRY), wanted, after).where(*_conditions(wanted))
    if floor is not None:
        statement = statement.where(_order() >= tuple_(floor.mrr, floor.seq))
    rows = await connection.execute(statement.order_by(briefs.c.mrr.desc(), briefs.c.seq.desc()).limit(limit))
    return [_Entry(*row) for row in rows]


async def _of_customer(connection: AsyncConnection, wanted: Wanted, after: Place | None) -> list[_Entry]:
    name = (wanted.customer or "").strip()
    found: set[_Entry] = set()
    for among in (
        briefs.c.seq.in_(await briefs_named(connection, name)),
        briefs.c.customer_seq.in_(await customers_named(connection, name)),
    ):
        rows = await connection.execute(select(*_ENTRY).where(among, *_conditions(wanted)))
        found |= {_Entry(*row) for row in rows}
    left = sorted(found, key=lambda entry: entry[:2], reverse=True)
    return [entry for entry in left if after is None or entry[:2] < (after.mrr, after.seq)]


async def _lines(connection: AsyncConnection, page: Sequence[_Entry]) -> list[BriefLine]:
    """What the list shows of these briefs, in their order.

    Only columns that stand before the text of a brief: SQLite reads through that, however long, to what stands after.
    """
    if not page:
        return []
    named = ("seq", "brief_id", "customer_id", "email", "currency", "customer_seq")
    risked = exists().where(at_risk.c.brief_seq == briefs.c.seq).label("is_at_risk")
    shared = select(func.count()).select_from(signals).where(signals.c.brief_seq == briefs.c.seq)
    rows = await connection.execute(
        select(*(briefs.c[name] for name in named), risked, shared.scalar_subquery().label("signals")).where(
            briefs.c.seq.in_([entry.seq for entry in page])
        )
    )
    by_seq = {row["seq"]: row for row in rows.mappings()}
    consents = await consent_of(connection, {row["customer_seq"] for row in by_seq.values()})
    return [
        BriefLine(
            seq=entry.seq,
            brief_id=row["brief_id"],
            customer_id=row["customer_id"],
            email=row["email"],
            persona_type=entry.persona_type,
            plan=entry.plan,
            kind=entry.event_type,
            mrr=entry.mrr,
            currency=row["currency"],
            created_at=entry.created_at,
            is_at_risk=bool(row["is_at_risk"]),
            outcome=entry.outcome,
            owner=entry.owner,
            signals=row["signals"],
            consent=consents[row["customer_seq"]],
        )
        for entry in page
        if (row := by_seq.get(entry.seq))
    ]
