"""A SQLite file as one of the two sides between which a record is copied."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Table

from churn_radar.errors import RecordUnusable
from churn_radar.store.copy_statements import SQLITE, count, flags_of, require_empty
from churn_radar.store.copying import Row
from churn_radar.store.schema import COPY_TABLE
from churn_radar.store.tables import metadata


class FileSide:
    """A SQLite file, which its caller has locked. As a source it is opened for reading only."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA synchronous=FULL")
        # Looked at all together, at the end.
        self._connection.execute("PRAGMA foreign_keys=OFF")
        if not writes:
            self._connection.execute("PRAGMA query_only=ON")

    async def rows(self, table: Table, *, after: Row | None = None, until: Row | None = None) -> AsyncIterator[Row]:
        """The rows in the order of their keys."""
        flags = flags_of(table)
        with closing(self._connection.execute(*SQLITE.select(table, after, until))) as found:
            for row in found:
                yield _with_flags(row, flags) if flags else row

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        return int(self._value(count(table)))

    async def last_key(self, table: Table) -> Row | None:
        """The key of the last row."""
        found: Row | None = self._connection.execute(SQLITE.last_key(table)).fetchone()
        return found

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Keep rows, all of them or none."""
        with self._transaction():
            self._connection.executemany(SQLITE.insert(table), rows)

    async def set_values(self, table: Table, column: Column[Any], values: Sequence[tuple[Any, Any]]) -> None:
        """Set one column of some rows: `(value, key)` each."""
        with self._transaction():
            self._connection.executemany(SQLITE.update(table, column), values)

    async def number(self, table: Table) -> int:
        """The highest number that a row of the table ever had, as far as the file knows."""
        [key] = table.primary_key.columns
        highest = self._value(f'SELECT coalesce(max("{key.name}"), 0) FROM "{table.name}"')  # noqa: S608
        kept = self._value("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", table.name)
        return max(int(highest), int(kept))

    async def number_from(self, table: Table, last: int) -> None:
        """Number the next row above `last`, where SQLite keeps count: elsewhere it numbers above the last row."""
        if table.dialect_options["sqlite"]["autoincrement"]:
            with self._transaction():
                self._connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
                self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))

    async def empty(self) -> None:
        """Delete every row of every table."""
        with self._transaction():
            for table in reversed(metadata.sorted_tables):
                self._connection.execute(f'DELETE FROM "{table.name}"')  # noqa: S608

    async def begin(self) -> None:
        """Mark the file as a target. Raises RecordUnusable when it holds rows that are no copy's."""
        if self._value("SELECT count(*) FROM sqlite_master WHERE name = ?", COPY_TABLE):
            return
        for table in metadata.sorted_tables:
            require_empty(table, await self.count(table))
        self._connection.execute(f"CREATE TABLE {COPY_TABLE} (begun TEXT)")

    async def end(self) -> None:
        """It is a record of its own now. Raises RecordUnusable when a row points at one that is not there."""
        if broken := self._connection.execute("PRAGMA foreign_key_check").fetchall():
            raise RecordUnusable(f"rows of the copy that point at rows that are not there: {len(broken)}")
        self._connection.execute(f"DROP TABLE {COPY_TABLE}")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _value(self, statement: str, *values: Any) -> Any:
        return self._connection.execute(statement, values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _with_flags(row: Row, flags: tuple[int, ...]) -> Row:
    values = list(row)
    for place in flags:
        if values[place] is not None:
            values[place] = bool(values[place])
    return tuple(values)
