"""What differs between databases, in one place."""

from __future__ import annotations

from sqlalchemy import ClauseElement, Table
from sqlalchemy.dialects import sqlite


def insert_or_ignore(table: Table, unique_column: str) -> sqlite.Insert:
    """An INSERT that leaves rows alone whose `unique_column` is already taken."""
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=[unique_column])


def statement_text(statement: ClauseElement) -> str:
    """A statement as the driver takes it, with `?` for each value in the order of its columns."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="qmark")))
