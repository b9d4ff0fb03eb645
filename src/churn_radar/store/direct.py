"""Runs the queries' coroutines to their end on a thread that owns its connection.

The queries are written for SQLAlchemy's asynchronous connections, where each statement is handed to another
thread and waited for. On the writer's own thread there is nothing to wait for, so a coroutine that touches only
the record runs through without a pause, and a piece of work of ten statements costs one hop instead of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Dialect, Executable

T = TypeVar("T")


class DirectConnection:
    """What the queries use of an AsyncConnection, on a plain connection of this thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database."""
        return self._connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Execute a statement; nothing is awaited in truth."""
        return self._connection.execute(statement, parameters)

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        """Run a function with the plain connection."""
        return work(self._connection)


def run_through(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that only awaits a DirectConnection; returns what it returns, raises what it raises.

    Raises RuntimeError when it waits for anything else: inside a transaction that would hold up everybody.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("a piece of work for the record waited for something other than the record")
