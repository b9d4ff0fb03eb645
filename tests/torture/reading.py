"""What a run leaves in its record, read past the service: a file by the standard library, a database by its driver."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

Row = Mapping[str, Any]


class Reading(Protocol):
    """A record that may be looked at, also while a service writes to it."""

    def rows(self, query: str) -> list[Row]:
        """What a query finds, by column."""
        ...

    def damage(self) -> list[str]:
        """What the database itself finds broken, one line each."""
        ...


@dataclass(frozen=True)
class FileReading:
    """A SQLite file."""

    path: Path

    def rows(self, query: str) -> list[Row]:
        """What a query finds, by column."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    def damage(self) -> list[str]:
        """What SQLite's own checks say."""
        broken = [row["integrity_check"] for row in self.rows("PRAGMA integrity_check")]
        lost = [f"a row of {row['table']} points to nothing" for row in self.rows("PRAGMA foreign_key_check")]
        return [line for line in broken if line != "ok"] + lost


@dataclass(frozen=True)
class DatabaseReading:
    """A Postgres database."""

    url: str

    def rows(self, query: str) -> list[Row]:
        """What a query finds, by column. Blocks its caller, whose event loop may be running."""

        async def ask() -> list[Row]:
            connection = await asyncpg.connect(self.url, timeout=5)
            try:
                return [dict(row) for row in await connection.fetch(query)]
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as beside:
            return beside.submit(asyncio.run, ask()).result()

    def damage(self) -> list[str]:
        """Nothing: the server lets no row point to nothing in the first place."""
        return []
