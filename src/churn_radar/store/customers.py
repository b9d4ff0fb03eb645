"""Customers as last seen: what research falls back on when the App API is down or the customer is gone.

Any number of customers may share a mail address. Of those only the one who had it last is ever read, and whoever is
known by it alone; what that costs does not grow with how many they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    RowMapping,
    Select,
    and_,
    bindparam,
    delete,
    insert,
    select,
    text,
    union,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.at_risk import keep_newest
from churn_radar.store.dialect import Held, hold, is_shared, is_storable
from churn_radar.store.tables import BY_MAIL_ALONE, briefs, customers, hints, signals
from churn_radar.triage.customer import CustomerRef, Profile

# A person who asks for an address is shown those who had it last, of any number of customers that share it.
MOST_OF_AN_ADDRESS = 100


@dataclass(frozen=True, slots=True)
class KnownCustomer:
    """A customer the record has seen: their row, their profile then, and when that was."""

    seq: int
    profile: Profile
    seen_at: datetime


def _known(row: RowMapping) -> KnownCustomer:
    ref = CustomerRef(row["customer_id"], row["cio_id"], row["email"])
    return KnownCustomer(row["seq"], Profile(ref, row["attributes"], row["unsubscribed"]), row["seen_at"])


class _Acquaintances:
    """The rows that share an identifier with somebody asked for, and the rules of who is who. No I/O.

    `rows` come newest seen first, so that of several the newest counts. Of those that share nothing but a mail address
    the newest is enough, with the ones of which nothing else is known.
    """

    def __init__(self, rows: Sequence[KnownCustomer]) -> None:
        self._by_cio_id: dict[str, list[KnownCustomer]] = defaultdict(list)
        self._by_id: dict[str, list[KnownCustomer]] = defaultdict(list)
        self._by_email: dict[str, list[KnownCustomer]] = defaultdict(list)
        for row in rows:
            ref = row.profile.ref
            self._by_cio_id[ref.cio_id or ""].append(row)
            self._by_id[ref.id or ""].append(row)
            self._by_email[ref.email or ""].append(row)

    def named(self, ref: CustomerRef) -> KnownCustomer | None:
        """The customer that a reference names.

        The lasting identifiers decide first; a mail address may have changed hands, so it only finds somebody
        whose other identifiers do not contradict the reference.
        """
        if ref.cio_id and (found := self._by_cio_id.get(ref.cio_id)):
            return found[0]
        if ref.id and (found := self._by_id.get(ref.id)):
            return found[0]
        if ref.email and (found := self._by_email.get(ref.email.lower())):
            other = found[0].profile.ref
            contradicts = (ref.id and other.id and ref.id != other.id) or (
                ref.cio_id and other.cio_id and ref.cio_id != other.cio_id
            )
            return None if contradicts else found[0]
        return None

    def same(self, ref: CustomerRef) -> set[int]:
        """The rows that a reference read live shows to be one customer.

        A row that knows another lasting identifier is somebody else: somebody who had the id or the address before.
        """
        same: set[int] = set()
        if ref.cio_id:
            same |= {row.seq for row in self._by_cio_id.get(ref.cio_id, ())}
        if ref.id:
            same |= {row.seq for row in self._by_id.get(ref.id, ()) if not row.profile.ref.cio_id}
        if ref.email:
            by_email = self._by_email.get(ref.email.lower(), ())
            same |= {row.seq for row in by_email if not row.profile.ref.cio_id and not row.profile.ref.id}
        return same


class _Rows(NamedTuple):
    """Rows of customers by some condition, as statements made once: making one takes longer than running it."""

    whole: Select[Any]
    numbers: Select[tuple[int]]


def _rows_where(condition: ColumnElement[bool]) -> _Rows:
    return _Rows(select(customers).where(condition), select(customers.c.seq).where(condition))


_BY_CIO_ID = _rows_where(customers.c.cio_id.in_(bindparam("cio_ids", expanding=True)))
_BY_ID = _rows_where(customers.c.customer_id.in_(bindparam("customer_ids", expanding=True)))
_KNOWN_BY_MAIL_ALONE = _rows_where(and_(customers.c.email.in_(bindparam("mails", expanding=True)), text(BY_MAIL_ALONE)))


@cache
def _who_had_last(count: int) -> _Rows:
    """Of so many mail addresses, `mail_0` and on, each one's last customer."""
    each = (select(_had_last(bindparam(f"mail_{place}"), limit=1).subquery().c.seq) for place in range(count))
    return _rows_where(customers.c.seq.in_(union_all(*each)))


def _that_matter(refs: Sequence[CustomerRef]) -> list[tuple[_Rows, dict[str, Any]]]:
    """The rows that count for telling who is who among some references, by statement and its values.

    A row counts that shares a lasting identifier with one, or had its mail address last, or is known by that alone.
    """
    mails = sorted({ref.email.lower() for ref in refs if ref.email})
    asked: list[tuple[_Rows, dict[str, Any]]] = []
    if cio_ids := {ref.cio_id for ref in refs if ref.cio_id}:
        asked.append((_BY_CIO_ID, {"cio_ids": sorted(cio_ids)}))
    if ids := {ref.id for ref in refs if ref.id}:
        asked.append((_BY_ID, {"customer_ids": sorted(ids)}))
    if mails:
        # A power of two, the last address several times: so few statements are made, and prepared by the database.
        padded = mails + mails[-1:] * ((1 << (len(mails) - 1).bit_length()) - len(mails))
        asked.append((_who_had_last(len(padded)), {f"mail_{place}": mail for place, mail in enumerate(padded)}))
        asked.append((_KNOWN_BY_MAIL_ALONE, {"mails": mails}))
    return asked


async def _acquaintances(connection: AsyncConnection, refs: Sequence[CustomerRef]) -> _Acquaintances:
    rows: dict[int, KnownCustomer] = {}
    for asked, values in _that_matter(refs):
        found = await connection.execute(asked.whole, values)
        rows |= {row["seq"]: _known(row) for row in found.mappings()}
    return _Acquaintances(sorted(rows.values(), key=lambda row: (row.seen_at, row.seq), reverse=True))


def _had_last(mail: str | BindParameter[Any], *, limit: int) -> Select[tuple[int]]:
    """The rows that have a mail address, those seen last first."""
    newest_first = customers.c.seen_at.desc(), customers.c.seq.desc()
    return select(customers.c.seq).where(customers.c.email == mail).order_by(*newest_first).limit(limit)


async def recall_all(connection: AsyncConnection, refs: Sequence[CustomerRef]) -> list[KnownCustomer | None]:
    """The customers that some references name, as last seen, in the order of the references."""
    known = await _acquaintances(connection, refs)
    return [known.named(ref) for ref in refs]


async def recall(connection: AsyncConnection, ref: CustomerRef) -> KnownCustomer | None:
    """The customer that a reference names, as last seen."""
    return (await recall_all(connection, [ref]))[0]


async def hold_customers(connection: AsyncConnection, refs: Sequence[CustomerRef], seqs: Collection[int] = ()) -> None:
    """Decide alone, until this transaction ends, who these customers are and which of their signals share a brief.

    Those who are not in the record yet are held by their names, the others by their rows too: two references without
    a name in common may mean one row. Always in that order, and before any signal, so that nobody waits in a circle.
    """
    if not is_shared(connection.dialect):
        return
    await hold(connection, Held.NAMES, {f"{kind} {name}" for ref in refs for kind, name in _names(ref)})
    asked = _that_matter(refs)
    matter = [rows.numbers for rows, _ in asked]
    named = {name: value for _, values in asked for name, value in values.items()}
    if seqs:
        matter.append(select(customers.c.seq).where(customers.c.seq.in_(seqs)))
    one_list = select(union_all(*matter).subquery().c.seq) if matter else None
    held: set[int] = set()
    # While this waited for a row its address may have gone to somebody else: then another one had it last.
    while one_list is not None and (more := set((await connection.execute(one_list, named)).scalars()) - held):
        await connection.execute(
            select(customers.c.seq)
            .where(customers.c.seq.in_(more))
            .order_by(customers.c.seq)
            .with_for_update(key_share=True)
        )
        held |= more


async def hold_customer_of(connection: AsyncConnection, signal_seq: int) -> int | None:
    """As `hold_customers`, for the customer of a signal; returns their row, None when they were not looked up yet.

    It may be another row than the caller has seen: two become one when a look-up shows that they are.
    """
    while True:
        of_signal = select(signals.c.customer_seq).where(signals.c.seq == signal_seq)
        seq: int | None = (await connection.execute(of_signal)).scalar()
        if seq is None or not is_shared(connection.dialect):
            return seq
        held = select(customers.c.seq).where(customers.c.seq == seq).with_for_update(key_share=True)
        if (await connection.execute(held)).first() is not None:
            return seq


async def remember_all(connection: AsyncConnection, profiles: Sequence[Profile], now: datetime) -> list[int]:
    """Keep profiles that were just read live; returns the customers' row numbers, in the order of the profiles.

    One customer under several names becomes one row as soon as one look-up shows the names together; their
    signals, briefs and hints move to that row.
    """
    rows: dict[CustomerRef, int] = {}
    left = {profile.ref: profile for profile in profiles}
    while left:
        # Whoever shares a name or a row with one before them comes in the next round, when that one is written down.
        known = await _acquaintances(connection, list(left))
        taken = _Taken()
        new: list[Profile] = []
        seen: list[tuple[KnownCustomer, Profile]] = []
        gone: dict[int, int] = {}
        for ref, profile in left.items():
            found, same = known.named(ref), known.same(ref)
            if not taken.take(ref, same | ({found.seq} if found else set())):
                continue
            if found is None:
                new.append(profile)
            else:
                seen.append((found, profile))
                rows[ref] = found.seq
                gone |= dict.fromkeys(same - {found.seq}, found.seq)
        rows |= await _insert(connection, new, now)
        await _update(connection, seen, now)
        for other, into in gone.items():
            await _merge(connection, other, into)
        # Among them may be the row of one who was written down in an earlier round.
        rows = {ref: gone.get(seq, seq) for ref, seq in rows.items()}
        left = {ref: profile for ref, profile in left.items() if ref not in rows}
    return [rows[profile.ref] for profile in profiles]


class _Taken:
    """What the profiles of one round have to themselves. No I/O."""

    def __init__(self) -> None:
        self._claims: set[tuple[str, str] | int] = set()
        self._by_mail: dict[str, set[tuple[bool, bool]]] = defaultdict(set)

    def take(self, ref: CustomerRef, rows: Set[int]) -> bool:
        """Take the names of a profile and the rows that it means; False, and nothing is taken, when one is taken."""
        names = (("id", ref.id), ("cio_id", ref.cio_id))
        claims: set[tuple[str, str] | int] = {*rows, *((kind, value) for kind, value in names if value)}
        has = bool(ref.id), bool(ref.cio_id)
        of_mail = self._by_mail[ref.email.lower()] if ref.email else set()
        # By a mail address two may only be the same when they have no lasting identifier of the same kind: that would
        # be taken too, or tells them apart. Customers that merely share an address do not wait for each other.
        if not self._claims.isdisjoint(claims) or any(not (a and has[0]) and not (b and has[1]) for a, b in of_mail):
            return False
        self._claims |= claims
        of_mail.add(has)
        return True


async def rows_now(connection: AsyncConnection, known: Sequence[KnownCustomer]) -> list[int]:
    """The row numbers of customers that were recalled earlier, in order: some may have been merged since."""
    if not known:
        return []
    there = await connection.execute(select(customers.c.seq).where(customers.c.seq.in_([each.seq for each in known])))
    still = set(there.scalars())
    rows = {each.seq: each.seq for each in known if each.seq in still}
    for each in known:
        if each.seq not in rows:
            found = await recall(connection, each.profile.ref)
            rows[each.seq] = found.seq if found else await remember(connection, each.profile, each.seen_at)
    return [rows[each.seq] for each in known]


async def remember(connection: AsyncConnection, profile: Profile, now: datetime) -> int:
    """Keep a profile that was just read live; returns the customer's row number."""
    return (await remember_all(connection, [profile], now))[0]


def _names(ref: CustomerRef) -> set[tuple[str, str]]:
    named = (("id", ref.id), ("cio_id", ref.cio_id), ("email", ref.email and ref.email.lower()))
    return {(kind, value) for kind, value in named if value}


async def _insert(connection: AsyncConnection, profiles: Sequence[Profile], now: datetime) -> dict[CustomerRef, int]:
    if not profiles:
        return {}
    inserted = await connection.execute(
        insert(customers).returning(customers.c.seq, sort_by_parameter_order=True),
        [_values(profile, None, now) for profile in profiles],
    )
    return {profile.ref: seq for profile, seq in zip(profiles, inserted.scalars(), strict=True)}


async def _update(connection: AsyncConnection, seen: Sequence[tuple[KnownCustomer, Profile]], now: datetime) -> None:
    if not seen:
        return
    columns = ("customer_id", "cio_id", "email", "unsubscribed", "attributes", "seen_at")
    await connection.execute(
        update(customers)
        .where(customers.c.seq == bindparam("at_seq"))
        .values({name: bindparam(f"to_{name}") for name in columns}),
        [
            {"at_seq": known.seq}
            | {f"to_{name}": value for name, value in _values(profile, known.profile, now).items()}
            for known, profile in seen
        ],
    )


def _values(profile: Profile, before: Profile | None, now: datetime) -> dict[str, Any]:
    ref, known = profile.ref, before.ref if before else CustomerRef()
    # An answer that does not say takes nothing back.
    said = profile.unsubscribed if profile.unsubscribed is not None or before is None else before.unsubscribed
    return {
        "customer_id": ref.id or known.id,
        "cio_id": ref.cio_id or known.cio_id,
        "email": ref.email.lower() if ref.email else known.email,
        "unsubscribed": said,
        "attributes": dict(profile.attributes),
        "seen_at": now,
    }


async def _merge(connection: AsyncConnection, other: int, into: int) -> None:
    for table in (signals, briefs, hints):
        await connection.execute(update(table).where(table.c.customer_seq == other).values(customer_seq=into))
    await keep_newest(connection, into)
    await connection.execute(delete(customers).where(customers.c.seq == other))


async def customers_named(connection: AsyncConnection, name: str) -> tuple[int, ...]:
    """The rows that a person may mean by an id, a cio_id or a mail address.

    Also by the id that an event named them by: a customer who was merged goes by another one since. Of an address that
    many share, those who had it last.
    """
    if not is_storable(name):
        return ()
    had_last = _had_last(name.lower(), limit=MOST_OF_AN_ADDRESS).subquery()
    # Each by an index of its own: what is looked for by one name or another is not, on every database.
    known_as = [
        select(customers.c.seq).where(column == name) for column in (customers.c.customer_id, customers.c.cio_id)
    ]
    named_as = [
        select(signals.c.customer_seq).where(column == name) for column in (signals.c.customer_id, signals.c.cio_id)
    ]
    every = union(*known_as, select(had_last.c.seq), *named_as)
    return tuple(sorted(seq for (seq,) in await connection.execute(every) if seq is not None))


async def load_customer(connection: AsyncConnection, seq: int) -> KnownCustomer | None:
    """The customer of a row number."""
    row = (await connection.execute(select(customers).where(customers.c.seq == seq))).mappings().first()
    return _known(row) if row else None
