"""Statements that SQLAlchemy compiles once for all the records of a process, and not for each.

To compile them anew took a fourth of the time of a test with a record of its own.
An engine keeps what it has compiled, and each record has engines of its own. The dialects of two records of a kind are
alike, since one server is behind all of them; so what was compiled for the one is what would be for the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

MOST_STATEMENTS = 5000


@contextmanager
def compiled_once() -> Iterator[None]:
    """While the block runs, engines share what they compile."""
    shared: LRUCache[Any, Any] = LRUCache(MOST_STATEMENTS)
    with pytest.MonkeyPatch.context() as patch:
        # Each engine sets one of its own when it is made.
        patch.setattr(Engine, "_compiled_cache", property(lambda _: shared, lambda *_: None), raising=False)
        for dialect in (PGDialect_asyncpg, SQLiteDialect_aiosqlite, SQLiteDialect_pysqlite):
            # The dialect is a part of the key.
            patch.setattr(dialect, "__eq__", lambda one, other: type(one) is type(other))
            patch.setattr(dialect, "__hash__", lambda one: hash(type(one)))
        yield
