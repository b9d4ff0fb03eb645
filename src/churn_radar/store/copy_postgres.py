"""A Postgres database as one of the two sides between which a record is copied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, LargeBinary, Table

from churn_radar.counts import counted
from churn_radar.errors import RecordUnusable
from churn_radar.store.copy_statements import POSTGRES, count, require_empty
from churn_radar.store.copying import Row, plain_type
from churn_radar.store.dialect import Held
from churn_radar.store.schema import COPY_TABLE
from churn_radar.store.tables import metadata

if TYPE_CHECKING:
    import asyncpg

# Rows asked for at once; fewer where one may be megabytes long.
AHEAD = 1000
AHEAD_LONG = 8
LINGER_SECONDS = 2.0
LOOK_SECONDS = 0.1

_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'churn_radar%'
"""


class PostgresSide:
    """A Postgres database, through one connection of its driver's."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def rows(self, table: Table, *, after: Row | None = None, until: Row | None = None) -> AsyncIterator[Row]:
        """The rows in the order of their keys."""
        statement, values = POSTGRES.select(table, after, until)
        ahead = AHEAD_LONG if any(isinstance(plain_type(column), LargeBinary) for column in table.columns) else AHEAD
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in self._connection.cursor(statement, *values, prefetch=ahead):
                yield tuple(row)

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        return int(await self._connection.fetchval(count(table)))

    async def last_key(self, table: Table) -> Row | None:
        """The key of the last row."""
        found = await self._connection.fetchrow(POSTGRES.last_key(table))
        return None if found is None else tuple(found)

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Keep rows, all of them or none."""
        await self._connection.copy_records_to_table(table.name, records=rows, columns=list(table.columns.keys()))

    async def set_values(self, table: Table, column: Column[Any], values: Sequence[tuple[Any, Any]]) -> None:
        """Set one column of some rows: `(value, key)` each."""
        await self._connection.executemany(POSTGRES.update(table, column), values)

    async def number(self, table: Table) -> int:
        """The highest number that a row of the table ever had."""
        last = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {await self._sequence(table)}"  # noqa: S608
        return int(await self._connection.fetchval(last))

    async def number_from(self, table: Table, last: int) -> None:
        """Number the next row above `last`."""
        await self._connection.execute(
            "SELECT setval($1::text::regclass, $2, $3)", await self._sequence(table), max(last, 1), last > 0
        )

    async def _sequence(self, table: Table) -> str:
        [key] = table.primary_key.columns
        return str(await self._connection.fetchval("SELECT pg_get_serial_sequence($1, $2)", table.name, key.name))

    async def empty(self) -> None:
        """Delete every row of every table."""
        names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        await self._connection.execute(f"TRUNCATE {names}")

    async def require_alone(self) -> None:
        """Raises RecordUnusable when another copy is under way there, or a process of ours works there."""
        # A process that has just ended is seen there a moment longer.
        for _ in range(int(LINGER_SECONDS / LOOK_SECONDS)):
            if await self._in_use() is None:
                return
            await asyncio.sleep(LOOK_SECONDS)
        if reason := await self._in_use():
            raise RecordUnusable(reason)

    async def _in_use(self) -> str | None:
        if not await self._connection.fetchval("SELECT pg_try_advisory_lock($1, 0)", int(Held.COPY)):
            return "another copy-record is at work in this database; let it end"
        if others := await self._connection.fetchval(_OTHERS):
            return (
                f"running churn_radar processes have {counted(others, 'connection')} to this database; "
                "stop every `serve` and `worker` first"
            )
        return None

    async def begin(self) -> None:
        """Mark the database as a target. Raises RecordUnusable when it holds rows that are no copy's."""
        async with self._connection.transaction():
            await self._connection.execute("SELECT pg_advisory_xact_lock($1, 0)", int(Held.SCHEMA))
            if await self._connection.fetchval("SELECT to_regclass($1)", COPY_TABLE) is not None:
                return
            for table in metadata.sorted_tables:
                require_empty(table, await self.count(table))
            await self._connection.execute(f"CREATE TABLE {COPY_TABLE} (begun text)")

    async def end(self) -> None:
        """It is a record of its own now."""
        # Until it has counted the new rows, Postgres plans as if the tables were empty.
        for table in metadata.sorted_tables:
            await self._connection.execute(f'ANALYZE "{table.name}"')
        await self._connection.execute(f"DROP TABLE {COPY_TABLE}")
