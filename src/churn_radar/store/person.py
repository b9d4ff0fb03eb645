"""Everything that the record holds on one person: found by any of their names, read out, erased."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, false, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.at_risk import take_off, unname
from churn_radar.store.customers import MOST_OF_AN_ADDRESS, hold_customers
from churn_radar.store.dialect import is_storable
from churn_radar.store.outcome_sums import leave_out
from churn_radar.store.tables import (
    UNFINISHED,
    DeliveryStatus,
    brief_history,
    briefs,
    customers,
    deliveries,
    hints,
    quarantined_bodies,
    reminders,
    signal_history,
    signals,
)
from churn_radar.triage.customer import CustomerRef, IdType

# What hangs on a signal, and on a brief, beside the ledger, which is about money.
_OF_SIGNALS = (signal_history, quarantined_bodies)
_OF_BRIEFS = (brief_history, reminders, deliveries)

# In batches of so many, so that no statement has more values than the oldest SQLite takes.
BATCH = 400


class SeveralPeople(Exception):
    """A mail address that several customers share; `ids` are theirs, to be named one by one."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(f"{len(ids)} customers share this address; name one by its id")
        self.ids = list(ids)


@dataclass(frozen=True, slots=True)
class Person:
    """One person, as far as the record knows them: their rows, and every name that they go by in them."""

    customer_seqs: tuple[int, ...]
    signal_seqs: tuple[int, ...]
    brief_seqs: tuple[int, ...]
    ids: frozenset[str]
    cio_ids: frozenset[str]
    mails: frozenset[str]

    @property
    def names(self) -> dict[IdType, frozenset[str]]:
        """Every name, by its kind; mail addresses in lower case."""
        return {IdType.ID: self.ids, IdType.CIO_ID: self.cio_ids, IdType.EMAIL: self.mails}

    @property
    def is_known(self) -> bool:
        """Whether the record holds anything on them."""
        return bool(self.customer_seqs or self.signal_seqs)


async def find_person(connection: AsyncConnection, asked: str) -> Person:
    """The person that an id, a cio_id or a mail address means; raises SeveralPeople for an address that many share.

    Their rows, and signals of theirs that were never looked up: a signal that names somebody else by a lasting
    identifier is not theirs, though it shares an address.
    """
    seqs = await _rows_of(connection, asked)
    refs = await _refs(connection, customers, customers.c.seq.in_(seqs)) if seqs else []
    for table in (signals, briefs):
        refs += await _refs(connection, table, table.c.customer_seq.in_(seqs)) if seqs else []
    ids = {ref.id for ref in refs if ref.id}
    cio_ids = {ref.cio_id for ref in refs if ref.cio_id}
    mails = {ref.email.lower() for ref in refs if ref.email}
    if not refs and is_storable(asked):
        if "@" in asked:
            mails.add(asked.lower())
        else:
            ids.add(asked)
            cio_ids.add(asked)
    signal_seqs = await _seqs(connection, signals, signals.c.customer_seq.in_(seqs)) if seqs else []
    signal_seqs += await _never_looked_up(connection, ids, cio_ids, mails)
    brief_seqs = await _seqs(connection, briefs, briefs.c.customer_seq.in_(seqs)) if seqs else []
    return Person(
        tuple(sorted(seqs)),
        tuple(sorted(set(signal_seqs))),
        tuple(sorted(set(brief_seqs))),
        frozenset(ids),
        frozenset(cio_ids),
        frozenset(mails),
    )


async def _rows_of(connection: AsyncConnection, asked: str) -> set[int]:
    if not is_storable(asked):
        return set()
    by_name = [
        *(select(customers.c.seq).where(column == asked) for column in (customers.c.customer_id, customers.c.cio_id)),
        *(
            select(signals.c.customer_seq).where(column == asked)
            for column in (signals.c.customer_id, signals.c.cio_id)
        ),
    ]
    found: set[int] = set()
    for statement in by_name:
        found |= {seq for seq in (await connection.execute(statement)).scalars() if seq is not None}
    if found:
        return found
    by_mail = await connection.execute(
        select(customers.c.seq, customers.c.customer_id, customers.c.cio_id)
        .where(customers.c.email == asked.lower())
        .limit(MOST_OF_AN_ADDRESS)
    )
    rows = by_mail.all()
    if len(rows) > 1:
        raise SeveralPeople([row.customer_id or row.cio_id or "(no id)" for row in rows])
    if rows:
        return {rows[0].seq}
    # An address that they had before: of signals that were looked up.
    earlier = select(signals.c.customer_seq).where(signals.c.email == asked.lower()).distinct()
    before = {seq for seq in (await connection.execute(earlier)).scalars() if seq is not None}
    if len(before) > 1:
        named = select(customers.c.customer_id, customers.c.cio_id).where(customers.c.seq.in_(before))
        raise SeveralPeople([row[0] or row[1] or "(no id)" for row in await connection.execute(named)])
    return before


async def _refs(connection: AsyncConnection, table: Table, where: ColumnElement[bool]) -> list[CustomerRef]:
    names = select(table.c.customer_id, table.c.cio_id, table.c.email).where(where).distinct()
    refs = [CustomerRef(*row) for row in await connection.execute(names)]
    if table is not briefs:
        return refs
    # A brief's customer_id is the best name there was, a mail address for one.
    return [CustomerRef(None, ref.cio_id, ref.email or (ref.id if "@" in (ref.id or "") else None)) for ref in refs]


async def _seqs(connection: AsyncConnection, table: Table, where: ColumnElement[bool]) -> list[int]:
    return list((await connection.execute(select(table.c.seq).where(where))).scalars())


async def _never_looked_up(
    connection: AsyncConnection, ids: Collection[str], cio_ids: Collection[str], mails: Collection[str]
) -> list[int]:
    found: list[int] = []
    nobodys = signals.c.customer_seq.is_(None)
    for column, values in ((signals.c.customer_id, ids), (signals.c.cio_id, cio_ids)):
        if values:
            found += await _seqs(connection, signals, and_(column.in_(values), nobodys))
    if mails:
        not_anothers = and_(
            or_(signals.c.customer_id.is_(None), signals.c.customer_id.in_(ids) if ids else false()),
            or_(signals.c.cio_id.is_(None), signals.c.cio_id.in_(cio_ids) if cio_ids else false()),
        )
        found += await _seqs(connection, signals, and_(signals.c.email.in_(mails), nobodys, not_anothers))
    return found


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much there is of what, and what is still under way."""

    signals: int = 0
    briefs: int = 0
    deliveries: int = 0
    notes: int = 0
    hints: int = 0
    under_way: int = 0
    to_deliver: int = 0


async def count_held(connection: AsyncConnection, person: Person) -> Amounts:
    """What the record holds on a person."""

    async def count(table: Table, column: Any, seqs: Sequence[int], *more: ColumnElement[bool]) -> int:
        total = 0
        for start in range(0, len(seqs), BATCH):
            some = select(func.count()).select_from(table).where(column.in_(seqs[start : start + BATCH]), *more)
            total += int((await connection.execute(some)).scalar_one())
        return total

    # As an expression, so that no database goes by the index on the status.
    unfinished = signals.c.status.concat("").in_([status.value for status in UNFINISHED])
    pending = deliveries.c.status.concat("") == DeliveryStatus.PENDING.value
    return Amounts(
        signals=len(person.signal_seqs),
        briefs=len(person.brief_seqs),
        deliveries=await count(deliveries, deliveries.c.brief_seq, person.brief_seqs),
        notes=await count(brief_history, brief_history.c.brief_seq, person.brief_seqs),
        hints=await count(hints, hints.c.customer_seq, person.customer_seqs),
        under_way=await count(signals, signals.c.seq, person.signal_seqs, unfinished),
        to_deliver=await count(deliveries, deliveries.c.brief_seq, person.brief_seqs, pending),
    )


async def hold_person(connection: AsyncConnection, person: Person) -> None:
    """Nobody else decides anything about this person until this transaction ends."""
    refs = [CustomerRef(**{kind.value: name}) for kind, names in person.names.items() for name in names]
    await hold_customers(connection, refs, person.customer_seqs)


async def erase(connection: AsyncConnection, person: Person, private: Collection[str]) -> None:
    """Delete every row of a person; what was spent on them stays in the ledger, and in the sums without a name.

    `private` are words that name them, lower case: a persona is made of attributes, and one that holds such a word goes
    from the sums as well.
    """
    for seqs in _batches(person.brief_seqs):
        await take_off(connection, seqs)
        named = select(briefs.c.seq, briefs.c.persona_type).where(briefs.c.seq.in_(seqs))
        for seq, persona in (await connection.execute(named)).all():
            if any(word in persona.lower() for word in private):
                await leave_out(connection, seq)
                await unname(connection, seq)
        await connection.execute(delete(briefs).where(briefs.c.seq.in_(seqs)))
    for seqs in _batches(person.signal_seqs):
        await connection.execute(update(signals).where(signals.c.joined_to.in_(seqs)).values(joined_to=None))
    for seqs in _batches(person.signal_seqs):
        await connection.execute(delete(signals).where(signals.c.seq.in_(seqs)))
    for seqs in _batches(person.customer_seqs):
        await connection.execute(delete(customers).where(customers.c.seq.in_(seqs)))


def _batches(seqs: Sequence[int]) -> list[Sequence[int]]:
    return [seqs[start : start + BATCH] for start in range(0, len(seqs), BATCH)]


async def read_everything(connection: AsyncConnection, person: Person) -> dict[str, list[dict[str, Any]]]:
    """All that the record holds on a person, as rows by the name of their table, oldest first."""
    wanted: tuple[tuple[Table, Any, Sequence[int]], ...] = (
        (customers, customers.c.seq, person.customer_seqs),
        (signals, signals.c.seq, person.signal_seqs),
        *((table, table.c.signal_seq, person.signal_seqs) for table in _OF_SIGNALS),
        (briefs, briefs.c.seq, person.brief_seqs),
        *((table, table.c.brief_seq, person.brief_seqs) for table in _OF_BRIEFS),
        (hints, hints.c.customer_seq, person.customer_seqs),
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for table, column, seqs in wanted:
        rows: list[dict[str, Any]] = []
        for some in _batches(seqs):
            read = await connection.execute(select(table).where(column.in_(some)).order_by(*table.primary_key.columns))
            rows += [dict(row) for row in read.mappings()]
        found[table.name] = rows
    return found
