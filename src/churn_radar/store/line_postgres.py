"""The door's own connection to Postgres: a batch of signals, and the jobs for them, in one way there and back.

Everything else goes through SQLAlchemy's pools. This does not: begin, insert, enqueue and commit were four ways, each
of which a busy machine makes longer, and half of what a commit costs the event loop was SQLAlchemy's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from churn_radar.store.arrivals import Accepted, Arrival
from churn_radar.store.arrivals_postgres import has_bodies, insert_arrivals, insert_text
from churn_radar.store.postgres import connect, is_spent

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.prepared_stmt import PreparedStatement

CLOSE_SECONDS = 2.0


class DoorLine:
    """One connection, made anew after it was lost. For one caller at a time.

    `jobs_of_new` is what the storing statement does with the rows that it stored (see `store.jobs`).
    """

    def __init__(self, database_url: str, jobs_of_new: str | None = None) -> None:
        self._url = database_url
        self._text = insert_text(jobs_of_new)
        self._open: tuple[asyncpg.Connection[Any], PreparedStatement[Any]] | None = None

    async def insert(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Commit a batch; returns one outcome per arrival, in order. Raises whatever the driver does."""
        connection, statement = await self._connected()
        try:
            if not has_bodies(arrivals):
                return await insert_arrivals(connection, statement, arrivals)
            async with connection.transaction():
                return await insert_arrivals(connection, statement, arrivals)
        except BaseException as error:
            if not isinstance(error, Exception) or is_spent(error):
                connection.terminate()
            raise

    async def close(self) -> None:
        """End the connection."""
        if self._open is not None:
            with contextlib.suppress(Exception):
                await self._open[0].close(timeout=CLOSE_SECONDS)

    async def _connected(self) -> tuple[asyncpg.Connection[Any], PreparedStatement[Any]]:
        if self._open is None or self._open[0].is_closed():
            self._open = None
            connection = await connect(self._url)
            try:
                self._open = connection, await connection.prepare(self._text)
            except BaseException:
                connection.terminate()
                raise
        return self._open
