"""What differs between databases, in one place.

On SQLite everything is written by one thread, so no two pieces of work ever meet. On Postgres several replicas write
at once: what has to be decided by one of them at a time, `hold` lets them decide in turn.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

from sqlalchemy import ClauseElement, Dialect, Table, bindparam, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.triage.text import is_whole

if TYPE_CHECKING:
    import asyncpg

# Names are held by their number in this range, so that however many a transaction holds, the server's table of locks
# (6,400 places by default) holds them. Two names of one number only wait for each other.
NUMBERS = 1024


class Held(IntEnum):
    """What is decided by one transaction at a time. The values are the first key of Postgres's advisory locks."""

    SCHEMA = 0x43520001  # "CR": other programs of the same database take other ones
    NAMES = 0x43520002
    OPENINGS = 0x43520003
    WAITING = 0x43520004
    COPY = 0x43520005
    TOMBSTONES = 0x43520006
    RETENTION = 0x43520007
    QUARANTINE = 0x43520008


def insert_or_ignore(table: Table) -> sqlite.Insert:
    """An INSERT that leaves out rows of which any unique value is already taken; other constraints still raise."""
    return sqlite.insert(table).on_conflict_do_nothing()


def insert_into(table: Table, dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that may be told what to do with rows that are there already, for either database."""
    return postgresql.insert(table) if is_shared(dialect) else sqlite.insert(table)


def insert_if_new(table: Table, dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    """As `insert_or_ignore`, for either database; with `returning`, rows that were left out return nothing."""
    return insert_into(table, dialect).on_conflict_do_nothing()


def statement_text(statement: ClauseElement) -> str:
    """A statement as the driver takes it, with `?` for each value in the order of its columns."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="qmark")))


def is_storable(name: str) -> bool:
    """Whether a database can hold this text at all: Postgres takes no NUL, and no database half a surrogate pair.

    Nothing that the record holds has such a name, so whoever asks for one need not be looked for.
    """
    return "\0" not in name and is_whole(name)


def is_shared(dialect: Dialect) -> bool:
    """Whether other processes write to this record at the same time."""
    return dialect.name == postgresql.dialect.name


_HOLD = text("SELECT pg_advisory_xact_lock(:held, number) FROM unnest(:numbers) AS number").bindparams(
    bindparam("held", type_=postgresql.INTEGER()),
    bindparam("numbers", type_=postgresql.ARRAY(postgresql.INTEGER())),
)
# The same place as `hold` without a name.
_HOLD_BEYOND = text("SELECT pg_advisory_lock(:held, 0)").bindparams(bindparam("held", type_=postgresql.INTEGER()))
_HOLD_TOGETHER = text("SELECT pg_advisory_xact_lock_shared(:held, 0)").bindparams(
    bindparam("held", type_=postgresql.INTEGER())
)


async def hold(connection: AsyncConnection, held: Held, names: Iterable[str] = ("",)) -> None:
    """Wait until nobody else holds any of these names, then hold them until this transaction ends.

    What is read after this was decided by whoever held them before. They are taken in one order, so two transactions
    that want several never wait for each other. Nothing to do on SQLite, which writes in one order.
    """
    if is_shared(connection.dialect):
        numbers = sorted({zlib.crc32(name.encode()) % NUMBERS for name in names})
        if numbers:
            await connection.execute(_HOLD, {"held": held, "numbers": numbers})


async def hold_beyond(connection: AsyncConnection, held: Held) -> None:
    """As `hold`, over all transactions of this connection until it is closed. Only on Postgres."""
    await connection.execute(_HOLD_BEYOND, {"held": held})


async def try_hold(connection: AsyncConnection, held: Held) -> bool:
    """Hold this until the transaction ends, unless somebody else does; whether it is held. On SQLite it always is."""
    if not is_shared(connection.dialect):
        return True
    taken = await connection.execute(text("SELECT pg_try_advisory_xact_lock(:held)"), {"held": int(held)})
    return bool(taken.scalar_one())


async def hold_together(connection: AsyncConnection, held: Held) -> None:
    """As `hold`, beside others who hold it together; whoever takes it by `hold` waits for them all."""
    if is_shared(connection.dialect):
        await connection.execute(_HOLD_TOGETHER, {"held": held})


async def driver_connection(connection: AsyncConnection) -> asyncpg.Connection:
    """The driver's own connection to Postgres, inside the transaction of `connection`.

    SQLAlchemy begins the driver's transaction with its first statement; what is done before that would be committed
    by itself.
    """
    raw: asyncpg.Connection | None = (await connection.get_raw_connection()).driver_connection
    assert raw is not None  # noqa: S101  it has just been checked out
    if not raw.is_in_transaction():
        await connection.exec_driver_sql("SELECT 1")
    return raw
