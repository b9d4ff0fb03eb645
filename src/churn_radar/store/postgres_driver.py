"""A small pool of connections to Postgres that outlives every one of them, and one more that listens.

PgQueuer's own driver gives up with the connection: its run loop ends, and so would the work. This one waits and
tries again, for as long as Postgres is away; whoever asks whether the work runs is told by `trouble`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import asyncpg
import structlog
from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import Driver, NotifyCallback

from churn_radar.errors import RecordUnavailable
from churn_radar.store.postgres import connect, is_passing, is_spent

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger(__name__)

POOL_SIZE = 4
ACQUIRE_SECONDS = 10.0
CLOSE_SECONDS = 5.0
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 2.0
# A connection that a firewall has forgotten says nothing: the one that only listens is asked now and then.
LISTENER_CHECK_SECONDS = 10.0
# Prepared statements that each connection of the pool keeps.
STATEMENTS = 100

# All that the driver raises; which of it passes, `is_passing` says.
ERRORS = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError)

T = TypeVar("T")


class PatientDriver(Driver):
    """PgQueuer's port to the database, and ours. One for a process; a context that opens and closes it.

    `fetch` and `execute` wait until Postgres answers. They may run a statement twice, when a connection broke before
    its answer came: use them for what can be repeated. Once closing, they raise RecordUnavailable instead of waiting.
    The URL goes to asyncpg as it is, so whatever libpq's tools take works here too.
    """

    def __init__(self, database_url: str, *, size: int = POOL_SIZE) -> None:
        self._dsn = database_url
        self._size = size
        self._pool: asyncpg.Pool | None = None
        self._closing = asyncio.Event()
        self._callbacks: dict[str, list[Callable[[str], None]]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._rewired = asyncio.Event()
        self.trouble: str | None = None
        self.connected_since = time.monotonic()
        self.on_connected: list[Callable[[], None]] = []

    async def open(self) -> Self:
        """Make the pool. Connects with the first statement, so a Postgres that is away is no error yet."""

        async def open_one(*_: Any, **__: Any) -> Any:
            return await connect(self._dsn, statements=STATEMENTS)

        self._pool = await asyncpg.create_pool(
            self._dsn, min_size=0, max_size=self._size, connect=open_one, reset=_as_it_is
        )
        return self

    async def close(self) -> None:
        """Let whoever waits go, and close every connection."""
        self._closing.set()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        if self._pool is not None:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._pool.close()
            except ERRORS:
                self._pool.terminate()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """The driver, open for as long as the context lasts."""
        await self.open()
        try:
            yield self
        finally:
            await self.close()

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Rows of a statement that can be repeated."""
        return await self._patiently(lambda connection: _rows(connection, query, args))

    async def execute(self, query: str, *args: object) -> str:
        """The tag of a statement that can be repeated."""

        async def run(connection: PoolConnectionProxy[Any]) -> str:
            return str(await connection.execute(query, *args))

        return await self._patiently(run)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PoolConnectionProxy[Any]]:
        """One connection in one transaction, tried once. Raises one of ERRORS."""
        async with _sound(self._required()) as connection, connection.transaction():
            yield connection
        self._succeeded()

    async def notify(self, channel: str, payload: str) -> None:
        """Wake whoever listens on a channel, in every process."""
        await self.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Hear what is notified on a channel, from now on and through reconnects.

        Notifications of the time without a connection are lost; `on_connected` tells when to look for oneself.
        """
        self._callbacks.setdefault(channel, []).append(callback)
        self._rewired.set()
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="postgres-listener")

    async def remove_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Hear no more of it."""
        with suppress(KeyError, ValueError):
            self._callbacks[channel].remove(callback)

    @property
    def shutdown(self) -> asyncio.Event:
        """Set when nothing waits for Postgres any more."""
        return self._closing

    @property
    def tm(self) -> TaskManager:
        """PgQueuer's port asks for one; nothing of ours runs in it."""
        return TaskManager()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """PgQueuer's run loop enters and leaves the driver; it lives as long as the process all the same."""

    def _required(self) -> asyncpg.Pool:
        if self._pool is None or self._closing.is_set():
            raise RecordUnavailable("the connections to Postgres are closed")
        return self._pool

    async def _patiently(self, run: Callable[[PoolConnectionProxy[Any]], Awaitable[T]]) -> T:
        wait = FIRST_RETRY_SECONDS
        while True:
            pool = self._required()
            try:
                async with _sound(pool) as connection:
                    found = await run(connection)
            except asyncpg.TransactionRollbackError:
                pass  # two got in each other's way, and Postgres let the other one go first
            except ERRORS as error:
                if not is_passing(error):
                    raise
                self.failed(error)
            else:
                self._succeeded()
                return found
            await self.pause(wait)
            wait = min(wait * 2, LONGEST_RETRY_SECONDS)

    async def pause(self, seconds: float) -> None:
        """Wait before the next try, but not when closing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def failed(self, error: BaseException) -> None:
        """Remember that Postgres is away; says so once. The error's text may quote what was sent, its name does not."""
        if self.trouble is None and not self._closing.is_set():
            log.warning("postgres.away", cause=type(error).__name__)
        self.trouble = type(error).__name__

    def _succeeded(self) -> None:
        if self.trouble is not None:
            log.info("postgres.back")
            self.trouble, self.connected_since = None, time.monotonic()

    async def _listen(self) -> None:
        wait = FIRST_RETRY_SECONDS
        while not self._closing.is_set():
            try:
                connection = await connect(
                    self._dsn, name="churn_radar listener", answer_seconds=LISTENER_CHECK_SECONDS
                )
            except ERRORS as error:
                self.failed(error)
                await self.pause(wait)
                wait = min(wait * 2, LONGEST_RETRY_SECONDS)
                continue
            wait = FIRST_RETRY_SECONDS
            try:
                await self._hear(connection)
            except ERRORS as error:
                if not self._closing.is_set():
                    log.info("postgres.listener_lost", cause=type(error).__name__)
            finally:
                connection.terminate()

    async def _hear(self, connection: Connection[Any]) -> None:
        heard: set[str] = set()
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        while True:
            self._rewired.clear()
            for channel in self._callbacks.keys() - heard:
                await connection.add_listener(channel, self._pass_on)
                heard.add(channel)
            for tell in self.on_connected:
                tell()
            while not self._rewired.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(LISTENER_CHECK_SECONDS):
                        await _first(ended.wait(), self._rewired.wait())
                if ended.is_set():
                    raise ConnectionResetError
                await connection.fetchval("SELECT 1")

    def _pass_on(self, connection: object, pid: object, channel: str, payload: object) -> None:
        for callback in list(self._callbacks.get(channel, ())):
            callback(str(payload))


@asynccontextmanager
async def _sound(pool: asyncpg.Pool) -> AsyncIterator[PoolConnectionProxy[Any]]:
    """A connection of the pool, which does not get it back in doubt."""
    async with pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
        try:
            yield connection
        except ERRORS as error:
            if is_spent(error):
                connection.terminate()
            raise


async def _as_it_is(connection: Connection[Any]) -> None:
    """What goes back to the pool stays as it was set up; nothing of ours leaves anything on it."""


async def _rows(connection: PoolConnectionProxy[Any], query: str, args: tuple[object, ...]) -> list[dict[str, object]]:
    return [dict(row) for row in await connection.fetch(query, *args)]


async def _first(*waits: Awaitable[Any]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
