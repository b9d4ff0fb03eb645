"""A record copied table by table from one database to the other, and compared afterwards.

Every table of `churn_radar.store.tables` is copied, by its columns, in the order of its primary key. A copy that was
broken off goes on behind the last row that arrived; what had arrived is compared first, since the source may have been
written to since. Left out is what replicas share and the engine's jobs (`churn_radar.store.shared_tables`,
`churn_radar.store.jobs`): both are made anew from the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, Table
from sqlalchemy.types import TypeDecorator

from churn_radar.counts import counted
from churn_radar.errors import RecordUnusable
from churn_radar.store.tables import metadata

Row = tuple[Any, ...]
Progress = Callable[[str, int, int], None]

MOST_ROWS = 2000
# A quarantined body may be megabytes long.
MOST_BYTES = 8 * 1024 * 1024
# Types whose values both drivers give and take alike.
PLAIN = (String, BigInteger, Integer, Float, Boolean, LargeBinary)


class Side(Protocol):
    """One database of the two. All names are those of our own tables."""

    def rows(self, table: Table, *, after: Row | None = None, until: Row | None = None) -> AsyncIterator[Row]:
        """The rows in the order of their keys, from behind the key `after` up to the key `until`."""
        ...

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        ...

    async def last_key(self, table: Table) -> Row | None:
        """The key of the last row; None when there is none."""
        ...

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Keep rows, all of them or none."""
        ...

    async def set_values(self, table: Table, column: Column[Any], values: Sequence[tuple[Any, Any]]) -> None:
        """Set one column of some rows: `(value, key)` each."""
        ...

    async def number(self, table: Table) -> int:
        """The highest number that a row of the table ever had."""
        ...

    async def number_from(self, table: Table, last: int) -> None:
        """Number the next row above `last`."""
        ...

    async def empty(self) -> None:
        """Delete every row of every table."""
        ...


@dataclass(frozen=True, slots=True)
class Sum:
    """What a table holds: how many rows, and a checksum over all their values in the order of their keys."""

    table: str
    rows: int
    checksum: str


def plain_type(column: Column[Any]) -> Any:
    """The type of a column as the database has it."""
    kind = column.type
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def own_references(table: Table) -> list[Column[Any]]:
    """The columns that point at other rows of the same table."""
    return [column for column in table.columns if any(key.column.table is table for key in column.foreign_keys)]


async def copy_tables(source: Side, target: Side, progress: Progress) -> None:
    """Copy what the target has not got yet; `progress` is told (table, rows there, rows in all).

    The target must hold nothing but an earlier, unfinished copy. Begins anew when the source has changed since.
    """
    if not await _still_agree(source, target):
        await target.empty()
    for table in metadata.sorted_tables:
        total, there = await source.count(table), await target.count(table)
        progress(table.name, there, total)
        async for batch in _batches(source.rows(table, after=await target.last_key(table))):
            await target.put(table, _without_later_ones(table, batch))
            there += len(batch)
            progress(table.name, there, total)
        for column in own_references(table):
            await _point_ahead(source, target, table, column)
        if table.autoincrement_column is not None:
            await target.number_from(table, await source.number(table))


async def compare(source: Side, target: Side, tell: Callable[[Sum], None]) -> None:
    """Compare every table by count and checksum; raises RecordUnusable for the first one that differs."""
    for table in metadata.sorted_tables:
        here, there = await _sum(source, table), await _sum(target, table)
        if here != there:
            raise RecordUnusable(
                f"the copy of {table.name} differs: {counted(here.rows, 'row')} with checksum {here.checksum} here, "
                f"{there.rows} with {there.checksum} there. Something has written to one of the two meanwhile; "
                "stop every churn_radar, then run the same command again"
            )
        tell(there)


async def _still_agree(source: Side, target: Side) -> bool:
    """Whether what is there already is what the source has in the same place."""
    for table in metadata.sorted_tables:
        last = await target.last_key(table)
        if last is not None:
            left_out = {column.name for column in own_references(table)}
            here, there = [await _sum(side, table, until=last, left_out=left_out) for side in (source, target)]
            if here != there:
                return False
    return True


async def _sum(side: Side, table: Table, *, until: Row | None = None, left_out: set[str] | None = None) -> Sum:
    kept = [place for place, column in enumerate(table.columns) if column.name not in (left_out or ())]
    digest, count = hashlib.blake2b(digest_size=8), 0
    async for row in side.rows(table, until=until):
        values = row if not left_out else tuple(row[place] for place in kept)
        digest.update(repr(values).encode())
        count += 1
    return Sum(table.name, count, digest.hexdigest())


async def _batches(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    async for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(batch) >= MOST_ROWS or size >= MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _without_later_ones(table: Table, batch: list[Row]) -> list[Row]:
    """The rows of a batch, with nothing in them that points at rows of later batches: those are not there yet."""
    columns = list(table.columns)
    places = [columns.index(column) for column in own_references(table)]
    if not places:
        return batch
    key = columns.index(_only_key(table))
    last = batch[-1][key]
    return [
        tuple(
            None if place in places and value is not None and value > last else value for place, value in enumerate(row)
        )
        for row in batch
    ]


async def _point_ahead(source: Side, target: Side, table: Table, column: Column[Any]) -> None:
    """Set what `_without_later_ones` has left out, now that every row is there."""
    columns = list(table.columns)
    key, place = columns.index(_only_key(table)), columns.index(column)
    ahead = [
        (row[place], row[key]) async for row in source.rows(table) if row[place] is not None and row[place] > row[key]
    ]
    await target.set_values(table, column, ahead)


def _only_key(table: Table) -> Column[Any]:
    [key] = table.primary_key.columns
    return key
