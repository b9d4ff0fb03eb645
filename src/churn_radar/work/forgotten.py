"""Keeps events about people who were forgotten out of the record: at the door, out of a buffer, and before triage.

The door asks what this process has heard, which costs nothing while nobody was forgotten. On Postgres another replica
may have forgotten somebody a moment ago: triage reads what is new before it writes anything down of a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import RecordUnavailable
from churn_radar.privacy.spotting import named_in
from churn_radar.privacy.tombstones import Mark, Tombstones, mark_of, marks_for
from churn_radar.store.arrivals import Accepted, Arrival, Verdict
from churn_radar.store.keys import kept_key
from churn_radar.store.record import Record
from churn_radar.store.tombstones import lay, load_after
from churn_radar.triage.customer import CustomerRef, IdType

log = structlog.get_logger(__name__)

KEY_NAME = "tombstones"
EVERY_SECONDS = 10.0
# Those that were lifted elsewhere are noticed when all are read anew.
ANEW_EVERY = 60


class Forgotten:
    """Everybody who was forgotten, as this process knows it. One for a process."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._key: bytes | None = None
        self._tombstones = Tombstones()
        self._read_to = 0

    async def key(self) -> bytes:
        """What identifiers are hashed with; never changes. Raises RecordUnavailable."""
        if self._key is None:
            self._key = await kept_key(self._record, KEY_NAME)
        return self._key

    async def load(self) -> None:
        """Read all of them anew; raises RecordUnavailable."""
        await self.key()
        async with self._record.read() as connection:
            marks, read_to = await load_after(connection, 0)
        self._tombstones.clear()
        self._tombstones.add(marks)
        self._read_to = read_to

    async def hear_now(self) -> None:
        """Know of everybody whom any replica has forgotten by now; raises RecordUnavailable."""
        await self.key()
        async with self._record.read() as connection:
            await self.hear(connection)

    async def hear(self, connection: AsyncConnection) -> None:
        """Read those that are new to this process."""
        marks, self._read_to = await load_after(connection, self._read_to)
        self._tombstones.add(marks)

    def person(self, ref: CustomerRef) -> str | None:
        """The forgotten person whom a reference names, None when it names nobody of them."""
        if self._key is None or not self._tombstones:
            return None
        return self._tombstones.person(self._key, ref)

    def names_one(self, body: bytes) -> bool:
        """Whether a body that is not understood names somebody who was forgotten, as far as that can be told."""
        return bool(self._tombstones) and self.knows_one(named_in(body))

    def knows_one(self, names: Iterable[tuple[IdType, str]]) -> bool:
        """Whether one of these identifiers is that of somebody who was forgotten."""
        return any(self.person(CustomerRef(**{kind.value: name})) for kind, name in names)

    def kept_out(self, arrival: Arrival) -> asyncio.Future[Accepted] | None:
        """The answer to an arrival about somebody who was forgotten: acknowledged, not kept; None for all others."""
        if not self._tombstones:
            return None
        if not (self.names_one(arrival.body) if arrival.body is not None else self.person(arrival.customer)):
            return None
        metrics.kept_out()
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        answer.set_result(Accepted(Verdict.IGNORED, arrival.event_id))
        return answer

    async def lay(
        self, connection: AsyncConnection, person: str, names: Mapping[IdType, Iterable[str]], now: datetime
    ) -> Sequence[Mark]:
        """Lay tombstones for a person's names; `heard` is to be told once that is committed."""
        marks = marks_for(await self.key(), person, names)
        await lay(connection, marks, now)
        return marks

    def heard(self, marks: Sequence[Mark]) -> None:
        """Know of tombstones that were laid here."""
        self._tombstones.add(marks)

    def marks(self, name: str) -> list[str]:
        """The marks that a name would have, whichever kind of identifier it is."""
        assert self._key is not None  # noqa: S101  loaded before anything is asked
        return [mark_of(self._key, kind, name.lower() if kind is IdType.EMAIL else name) for kind in IdType]

    async def keep_fresh(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Hear of what other replicas do, for as long as the service runs; a failure is told, and tried again."""
        turn = 0
        while True:
            try:
                if turn % ANEW_EVERY == 0:
                    await self.load()
                else:
                    await self.hear_now()
            except RecordUnavailable as error:
                log.warning("forgotten.not_read", cause=str(error))
            except Exception:
                log.exception("forgotten.not_read")
            else:
                turn += 1
            await sleep(EVERY_SECONDS)
