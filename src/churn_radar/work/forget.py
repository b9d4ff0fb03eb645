"""Forgets a person: every row of theirs goes, a tombstone stays, and what was spent on them is still in the ledger."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.privacy.spotting import named_in
from churn_radar.privacy.tombstones import Mark
from churn_radar.store.customers import load_customer
from churn_radar.store.person import Amounts, Person, count_held, erase, find_person, hold_person
from churn_radar.store.quarantine import KeptBody, bodies_after, load_bodies, take_out
from churn_radar.store.record import Record
from churn_radar.store.signals import load_signals
from churn_radar.store.tombstones import lift
from churn_radar.triage.customer import CustomerRef, IdType
from churn_radar.work.forgotten import Forgotten
from churn_radar.work.private import private_values
from churn_radar.work.quarantine import PAGE, PAGE_BYTES, as_many_as

log = structlog.get_logger(__name__)

TAKEN_OUT = "its body named somebody who was forgotten"
# Shorter words are parts of others.
SHORTEST_WORD = 3


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased, or would be; `person` is the tombstone's, which says nothing of whose it is.

    `scrubbed`: nothing of it is left in the record's files either; False when a backup was reading them.
    """

    known: bool
    amounts: Amounts
    bodies: int
    person: str | None = None
    scrubbed: bool = True


async def foresee(record: Record, asked: str) -> tuple[Erased, Person]:
    """What forgetting would erase, and whom it means; raises SeveralPeople or RecordUnavailable."""
    async with record.read() as connection:
        person = await find_person(connection, asked)
        amounts = await count_held(connection, person)
    bodies = await _bodies_naming(record, person)
    return Erased(person.is_known, amounts, len(bodies)), person


async def forget(record: Record, forgotten: Forgotten, asked: str, *, now: datetime) -> Erased:
    """Forget whom an id, a cio_id or a mail address means; raises SeveralPeople or RecordUnavailable.

    Of somebody unknown only the tombstone is laid, so that events that are still to come are kept out.
    """
    await forgotten.load()

    async def work(connection: AsyncConnection) -> tuple[Amounts, Person, str, Sequence[Mark]]:
        # Held by what was found, then found again: a look-up may have brought more together meanwhile.
        await hold_person(connection, await find_person(connection, asked))
        person = await find_person(connection, asked)
        amounts = await count_held(connection, person)
        private = await _private_words(connection, person)
        buried = _buried_as(forgotten, person) or secrets.token_hex(16)
        marks = await forgotten.lay(connection, buried, person.names, now)
        await erase(connection, person, private)
        return amounts, person, buried, marks

    amounts, person, buried, marks = await record.write(work)
    forgotten.heard(marks)
    bodies = await _bodies_naming(record, person)
    for start in range(0, len(bodies), PAGE):
        some = bodies[start : start + PAGE]
        await record.write(lambda connection, some=some: take_out(connection, some, reason=TAKEN_OUT, now=now))  # type: ignore[misc]
    scrubbed = await record.scrub()
    log.info("person.forgotten", person=buried, signals=amounts.signals, briefs=amounts.briefs, bodies=len(bodies))
    return Erased(person.is_known, amounts, len(bodies), buried, scrubbed)


async def let_in_again(record: Record, forgotten: Forgotten, asked: str) -> int:
    """Take the tombstones away of whoever goes by a name; returns how many people that were.

    Other replicas notice within ten minutes.
    """
    await forgotten.load()
    lifted = await record.write(lambda connection: lift(connection, forgotten.marks(asked)))
    await forgotten.load()
    return lifted


def _buried_as(forgotten: Forgotten, person: Person) -> str | None:
    """The tombstone that one of their names has already."""
    refs = [CustomerRef(**{kind.value: name}) for kind, names in person.names.items() for name in names]
    return next((found for ref in refs if (found := forgotten.person(ref))), None)


async def _private_words(connection: AsyncConnection, person: Person) -> Collection[str]:
    words = {name.lower() for names in person.names.values() for name in names}
    signals = await load_signals(connection, person.signal_seqs[:PAGE])
    for seq in person.customer_seqs:
        customer = await load_customer(connection, seq)
        if customer is not None:
            words |= {word.lower() for word in private_values(customer, signals)}
    return {word for word in words if len(word) >= SHORTEST_WORD}


async def _bodies_naming(record: Record, person: Person) -> list[int]:
    """The quarantined bodies that name a person, as far as that can be told, by the rows of their signals."""
    wanted = {(kind, name) for kind, names in person.names.items() for name in names}
    found: list[int] = []
    after = 0
    while True:
        async with record.read() as connection:
            page = [seq for seq, _ in as_many_as(await bodies_after(connection, after, PAGE), PAGE_BYTES)]
            bodies = await load_bodies(connection, page) if page else []
        if not page:
            return found
        # Megabytes of JSON: on the event loop they would hold the door up.
        found += await asyncio.to_thread(_naming, bodies, wanted)
        after = page[-1]


def _naming(bodies: Sequence[KeptBody], wanted: Collection[tuple[IdType, str]]) -> list[int]:
    return [body.seq for body in bodies if not named_in(body.body).isdisjoint(wanted)]
