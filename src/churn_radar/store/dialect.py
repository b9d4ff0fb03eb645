"""What differs between databases, in one place."""

from __future__ import annotations

from sqlalchemy import ClauseElement, Table
from sqlalchemy.dialects import sqlite


def insert_or_ignore(table: Table) -> sqlite.Insert:
    """An INSERT that leaves out rows of which any unique value is already taken; other constraints still raise."""
    return sqlite.insert(table).on_conflict_do_nothing()


def statement_text(statement: ClauseElement) -> str:
    """A statement as the driver takes it, with `?` for each value in the order of its columns."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="qmark")))
