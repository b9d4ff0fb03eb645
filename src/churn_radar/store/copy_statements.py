"""The statements by which a table is read and written when a record is copied, as either database spells them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, Column, String, Table

from churn_radar.counts import counted
from churn_radar.errors import RecordUnusable
from churn_radar.store.copying import Row, plain_type


@dataclass(frozen=True, slots=True)
class Spelling:
    """What differs: how the n-th value is written, and how text is told to sort byte by byte.

    Left to itself, Postgres sorts text by a language, and SQLite by its bytes.
    """

    place: Callable[[int], str]
    by_bytes: str

    def select(self, table: Table, after: Row | None, until: Row | None) -> tuple[str, list[Any]]:
        """The rows in the order of their keys, from behind one key up to another; with its values."""
        keys, values = self._keys(table), list[Any]()
        conditions = []
        for sign, bound in ((">", after), ("<=", until)):
            if bound is not None:
                places = ", ".join(self.place(len(values) + number) for number in range(1, len(bound) + 1))
                conditions.append(f"({keys}) {sign} ({places})")
                values += bound
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f'SELECT {_names(table)} FROM "{table.name}"{where} ORDER BY {keys}', values  # noqa: S608

    def last_key(self, table: Table) -> str:
        """The key of the last row."""
        downwards = ", ".join(f"{key} DESC" for key in self._keys(table).split(", "))
        names = ", ".join(f'"{key.name}"' for key in table.primary_key.columns)
        return f'SELECT {names} FROM "{table.name}" ORDER BY {downwards} LIMIT 1'  # noqa: S608

    def insert(self, table: Table) -> str:
        """One row, with all its columns."""
        places = ", ".join(self.place(number) for number in range(1, len(table.columns) + 1))
        return f'INSERT INTO "{table.name}" ({_names(table)}) VALUES ({places})'  # noqa: S608

    def update(self, table: Table, column: Column[Any]) -> str:
        """One column of the row with a key: the value first, then the key."""
        [key] = table.primary_key.columns
        return f'UPDATE "{table.name}" SET "{column.name}" = {self.place(1)} WHERE "{key.name}" = {self.place(2)}'  # noqa: S608

    def _keys(self, table: Table) -> str:
        return ", ".join(
            f'"{key.name}"{self.by_bytes if isinstance(plain_type(key), String) else ""}'
            for key in table.primary_key.columns
        )


SQLITE = Spelling(lambda number: "?", "")
POSTGRES = Spelling(lambda number: f"${number}", ' COLLATE "C"')


def count(table: Table) -> str:
    """How many rows there are."""
    return f'SELECT count(*) FROM "{table.name}"'  # noqa: S608


def flags_of(table: Table) -> tuple[int, ...]:
    """The places of the columns that hold true or false: SQLite keeps them as numbers."""
    return tuple(place for place, column in enumerate(table.columns) if isinstance(plain_type(column), Boolean))


def require_empty(table: Table, rows: int) -> None:
    """Raises RecordUnusable for a table of the target that has rows before a copy has begun."""
    if rows:
        raise RecordUnusable(
            f"the target holds data of its own already ({counted(rows, 'row')} in {table.name}); "
            "copy into an empty database"
        )


def _names(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)
