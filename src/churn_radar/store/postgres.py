"""Connections to Postgres, and what its errors mean.

The URL goes to the driver as it is, so everything that libpq's own tools take works here too: `sslmode`, several
hosts, a password file, the PG* variables.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from churn_radar.errors import RecordUnavailable, RecordUnusable

SCHEMES = ("postgresql://", "postgres://")
OLDEST_VERSION = 13  # pg_xact_status and pg_current_xact_id
CONNECT_SECONDS = 5.0
# An answer that has not come by then comes from nobody: the network has swallowed it.
ANSWER_SECONDS = 30.0
POOL_SECONDS = 10.0

_SETTINGS = {
    "jit": "off",  # compiling takes longer than any of our statements
    "lock_timeout": "10s",
    # A replica that vanishes in the middle of something must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "60s",
}
# What waiting may mend: connection, serialization, resources, locks, shutdown, disk, and a server that only reads.
READ_ONLY = "25006"
_PASSING = ("08", READ_ONLY, "40", "53", "55", "57", "58")
# Nothing is half done after these, and the same again may well go through: a conflict, a deadlock, a lock that took
# too long to get; once again after a row that somebody else has inserted meanwhile, for the second attempt finds it.
_AGAIN = ("40001", "40P01", "55P03")
_ONCE_AGAIN = "23505"


def is_postgres(database_url: str) -> bool:
    """Whether a URL names a Postgres database."""
    return database_url.startswith(SCHEMES)


def shown(database_url: str) -> str:
    """A URL as it may be printed: without user, password and parameters."""
    parts = urlsplit(database_url)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}" if is_postgres(database_url) else database_url


def driver() -> Any:
    """The driver; raises RecordUnusable when it is not installed."""
    try:
        import asyncpg
    except ImportError:
        raise RecordUnusable(
            "CHURN_RADAR_DATABASE_URL names Postgres, and its driver is not installed; run: pip install asyncpg"
        ) from None
    return asyncpg


async def connect(
    database_url: str,
    *,
    name: str = "churn_radar",
    answer_seconds: float | None = ANSWER_SECONDS,
    statements: int = 0,
    **told: str,
) -> Any:
    """One connection of the driver's, set up as all of ours are; `told` are further settings of the server.

    It waits for an answer `answer_seconds`, or as long as it takes: for statements that go through whole tables. Of
    prepared `statements` it keeps so many itself; SQLAlchemy keeps its own.
    """
    connection = await driver().connect(
        database_url,
        timeout=CONNECT_SECONDS,
        command_timeout=answer_seconds,
        server_settings={"application_name": name},
        statement_cache_size=statements,
    )
    # Not as parameters of the start, which PgBouncer refuses, or where it is told to ignores.
    settings = {**_SETTINGS, **told}
    try:
        await connection.execute(
            "SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS told(name, value)",
            list(settings),
            list(settings.values()),
        )
        # What is acknowledged is on disk, whatever somebody has set for speed. Stricter settings stay.
        await connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    except BaseException:
        connection.terminate()
        raise
    return connection


def make_engine(database_url: str, *, size: int, reading: bool = False) -> AsyncEngine:
    """A pool of at most `size` connections, opened as they are needed.

    With `reading` each transaction sees one moment of the record, and cannot write.
    """
    driver()

    async def open_one(**_: Any) -> Any:
        return await connect(database_url)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": open_one, "prepared_statement_cache_size": 300},
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        pool_use_lifo=True,
        # Parameters are personal data, and errors end up in logs.
        hide_parameters=True,
        **({"isolation_level": "REPEATABLE READ"} if reading else {}),
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _not_a_dead_one(dbapi_connection: Any, *_: object) -> None:
        # After a restart of the server every connection is dead, and the driver knows: the pool opens another one.
        if dbapi_connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine.execution_options(postgresql_readonly=True) if reading else engine


def sqlstate(error: BaseException) -> str:
    """Postgres's code of what went wrong; empty when it said nothing."""
    for each in (error, getattr(error, "orig", None)):
        if code := getattr(each, "sqlstate", None):
            return str(code)
    return ""


def _original(error: BaseException) -> BaseException:
    """The driver's own exception, below what SQLAlchemy makes of it."""
    translated = getattr(error, "orig", None)
    return error if translated is None else translated.__cause__ or translated


def is_gone(error: BaseException) -> bool:
    """Whether the connection was lost, so that nobody has heard how it ended."""
    if sqlstate(error).startswith(("08", "57P")) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return True
    original, known = _original(error), driver()
    if isinstance(original, ValueError):
        return False  # the driver's word for a value that it cannot send
    # The internal one is what it says of a connection that ends while it is being made.
    return isinstance(original, OSError | known.InterfaceError | known.InternalClientError)


def is_spent(error: BaseException) -> bool:
    """Whether the connection is of no more use: lost, or to a server that only reads.

    That one is a standby now, and the next connection may find the one that took over.
    """
    return is_gone(error) or sqlstate(error) == READ_ONLY


def is_worth_repeating(error: BaseException, repeated: int = 0) -> bool:
    """Whether the same work, done again from its beginning, may go through at once; `repeated` so often already."""
    code = sqlstate(error)
    return code in _AGAIN or is_gone(error) or (code == _ONCE_AGAIN and not repeated)


def is_passing(error: BaseException) -> bool:
    """Whether it is the database's state that is at fault, not the work."""
    return isinstance(error, NoneFree) or is_gone(error) or sqlstate(error).startswith(_PASSING)


def cause(error: BaseException) -> str:
    """What went wrong, in words that quote no value, no user and no password."""
    original = _original(error)
    if isinstance(original, socket.gaierror):
        return "its name does not resolve"
    if isinstance(original, OSError) and original.errno:
        return os.strerror(original.errno).lower()
    if isinstance(original, OSError) and not isinstance(original, TimeoutError):
        return "no connection to the database"
    code = sqlstate(error)
    return f"{type(original).__name__} ({code})" if code else type(original).__name__


@contextlib.contextmanager
def unavailable(what: str) -> Iterator[None]:
    """Turn what the database cannot do now into RecordUnavailable; everything else passes."""
    try:
        yield
    except RecordUnavailable:
        raise
    except Exception as error:
        if is_passing(error):
            raise RecordUnavailable(f"the record {what}: {cause(error)}") from error
        raise
