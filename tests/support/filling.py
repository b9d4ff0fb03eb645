"""A record with rows in every table, whatever tables there are: made from their columns, so that none is forgotten."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Table, UniqueConstraint

from churn_radar.store.copying import own_references, plain_type
from churn_radar.store.tables import metadata

WORDS = ("plain", "ünïcode ✉", "line\nbreak", "quote ' \" \\", "")


def fill_tables(path: Path, count: int, *, seed: int = 1) -> None:
    """Put `count` rows into each table of the record in this file; keys of theirs point at rows that are there."""
    chance = random.Random(seed)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for table in metadata.sorted_tables:
            names = ", ".join(f'"{name}"' for name in table.columns.keys())  # noqa: SIM118
            marks = ", ".join("?" * len(table.columns))
            rows = [[_value(column, number, count, chance) for column in table.columns] for number in _numbers(count)]
            connection.executemany(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', rows)  # noqa: S608
        assert not connection.execute("PRAGMA foreign_key_check").fetchall()


def _numbers(count: int) -> range:
    # Not from one on, and with holes: a row's place is not its number.
    return range(3, 3 + 2 * count, 2)


def _value(column: Column[Any], number: int, count: int, chance: random.Random) -> Any:
    kind = plain_type(column).python_type
    if column.foreign_keys and not column.primary_key:
        return chance.choice([*_numbers(count), *([None] * count if column.nullable else [])])
    if column.nullable and not column.primary_key and chance.random() < 0.3:
        return None
    if kind is int:
        return number if column.primary_key else chance.choice([0, 1, 2**31 - 1])
    if kind is float:
        return chance.choice([0.1, 1e300, -0.0, 850.0])
    if kind is bool:
        return chance.choice([0, 1])
    if kind is bytes:
        return chance.randbytes(number)
    longest = getattr(column.type, "length", None) or 40
    if column.primary_key or column.unique or _in_unique(column):
        return f"{number}"
    return chance.choice(WORDS)[:longest]


def _in_unique(column: Column[Any]) -> bool:
    table = column.table
    assert isinstance(table, Table)
    sets = [set(rule.columns.keys()) for rule in table.constraints if isinstance(rule, UniqueConstraint)]
    sets += [set(index.columns.keys()) for index in table.indexes if index.unique]
    return any(column.name in names for names in sets)


def rows_of_file(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, by table, in no matter which order."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table.name: sorted(connection.execute(_all(table)).fetchall(), key=repr) for table in metadata.sorted_tables
        }


def _all(table: Table) -> str:
    names = ", ".join(f'"{name}"' for name in table.columns.keys())  # noqa: SIM118
    return f'SELECT {names} FROM "{table.name}"'  # noqa: S608


def rows_of_database(database: Any) -> dict[str, list[tuple[Any, ...]]]:
    """The same of a scratch database, with its flags as the numbers that SQLite has for them."""
    return {
        table.name: sorted(
            (
                tuple(int(value) if isinstance(value, bool) else value for value in row)
                for row in database.rows(_all(table))
            ),
            key=repr,
        )
        for table in metadata.sorted_tables
    }


def points_ahead(path: Path) -> int:
    """How many rows of the record point at a later row of their own table."""
    with closing(sqlite3.connect(path)) as connection:
        return sum(
            connection.execute(
                f'SELECT count(*) FROM "{table.name}" WHERE "{column.name}" > "{key.name}"'  # noqa: S608
            ).fetchone()[0]
            for table in metadata.sorted_tables
            for column in own_references(table)
            for key in table.primary_key.columns
        )
