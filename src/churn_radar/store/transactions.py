"""Writing on Postgres: the door's rows in shared statements, each piece of work in a transaction of its own.

Several pieces run at once, here and in other replicas, so what must be decided by one at a time takes its turn by
`hold` (see `churn_radar.store.dialect`). A piece that met another one, or lost its connection, is run again from its
beginning: it only touches the record, and nothing of it was kept. When a connection is lost during the commit itself
nobody has heard whether it was kept; then the database is asked, by the number of the transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from churn_radar.errors import RecordUnavailable
from churn_radar.store.arrivals import Accepted, Arrival
from churn_radar.store.line_postgres import DoorLine
from churn_radar.store.postgres import READ_ONLY, cause, is_gone, is_worth_repeating, sqlstate, unavailable
from churn_radar.store.thread import T, Work

log = structlog.get_logger(__name__)

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.02
# How long to ask after a transaction whose commit nobody has heard of; a database takes about so long to restart.
ASK_FOR_SECONDS = 60.0
ASK_EVERY_SECONDS = 0.2

_NUMBER = text("SELECT pg_current_xact_id_if_assigned()::text")
_STATUS = text("SELECT pg_xact_status(CAST(:number AS xid8))").bindparams(number="")
# Makes the commit write to the log and wait for the disk, and changes nothing.
_TOUCH = text("SELECT current_setting('transaction_read_only'), pg_logical_emit_message(true, 'churn_radar', '')")


class Transactions:
    """Everything that one process writes to a record on Postgres."""

    def __init__(self, door: DoorLine, work: AsyncEngine) -> None:
        self._door = door
        self._work = work
        self._closing = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def insert(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Commit a batch of the door's; returns one outcome per arrival, in order.

        Raises RecordUnavailable when the database cannot take it now; it may have been kept all the same when the
        connection was lost, which the sender's retry then finds as a duplicate.
        """
        return await self._repeat(lambda: self._door.insert(arrivals))

    async def write(self, work: Work[T]) -> T:
        """Run `work(connection)` in a transaction and return its result once that is on disk.

        Raises whatever `work` raises (its changes are rolled back), or RecordUnavailable when the database fails. It
        may run several times, each time on what the others have left: it must only touch the record.
        """
        if self._closing:
            raise RecordUnavailable("the record is closing")
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._repeat(lambda: self._in_numbered_transaction(work))
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def check(self) -> None:
        """Prove that the database can commit now; raises RecordUnavailable when it cannot."""

        async def touch(connection: AsyncConnection) -> None:
            if (await connection.execute(_TOUCH)).scalar_one() == "on":
                raise RecordUnavailable("the record cannot commit: the database only reads")

        await self.write(touch)

    async def close(self) -> None:
        """Take nothing more, and wait for what is under way."""
        self._closing = True
        await self._idle.wait()

    async def _repeat(self, attempt: Callable[[], Awaitable[T]]) -> T:
        with unavailable("cannot commit"):
            for number in range(ATTEMPTS - 1):
                try:
                    return await attempt()
                except Exception as error:
                    if isinstance(error, RecordUnavailable) or not is_worth_repeating(error, number):
                        raise
                    log.debug("record.repeats", cause=cause(error), attempt=number + 1)
                await asyncio.sleep(FIRST_PAUSE_SECONDS * 2**number * random.uniform(0.5, 1.5))
            return await attempt()

    async def _in_numbered_transaction(self, work: Work[T]) -> T:
        number: str | None = None
        done: list[T] = []

        async def numbered(connection: AsyncConnection) -> None:
            nonlocal number
            number = None
            done[:] = [await work(connection)]
            number = (await connection.execute(_NUMBER)).scalar_one()

        try:
            await _in_transaction(self._work, numbered)
        except Exception as error:
            # With a number the work was done, and what failed is the commit.
            if number is None or not is_gone(error) or not await self._was_kept(number):
                raise
        return done[0]

    async def _was_kept(self, number: str) -> bool:
        """What became of a transaction; raises RecordUnavailable when the database does not come back to tell."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ASK_FOR_SECONDS
        while loop.time() < deadline:
            with contextlib.suppress(Exception):
                async with self._work.connect() as connection:
                    status = await _status(connection, number)
                if status != "in progress":
                    return status == "committed"
            await asyncio.sleep(ASK_EVERY_SECONDS)
        raise RecordUnavailable("the record does not tell what became of a commit")


async def _status(connection: AsyncConnection, number: str) -> str | None:
    try:
        status: str | None = (await connection.execute(_STATUS, {"number": number})).scalar_one()
    except Exception as error:
        if sqlstate(error) == "22023":
            return None  # no such transaction: this is another server, which took over before it heard of it
        raise
    return status


async def _in_transaction(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
    async with engine.begin() as connection:
        try:
            return await work(connection)
        except DBAPIError as error:
            if sqlstate(error) == READ_ONLY:
                # This server is a standby now: the next connection may find the one that took over.
                await connection.invalidate()
            raise
