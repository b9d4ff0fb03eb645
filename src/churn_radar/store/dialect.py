"""What differs between databases, in one place."""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert_or_ignore(connection: AsyncConnection, table: Table, unique_column: str) -> sqlite.Insert:
    """An INSERT that leaves rows alone whose `unique_column` is already taken."""
    del connection  # one dialect so far; the parameter is what a second one needs
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=[unique_column])
