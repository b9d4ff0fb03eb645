"""How Redis is called: by which client, and what an error is called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError

from churn_radar.errors import BufferUnavailable


def client_of(url: str, timeout_seconds: float) -> Redis:
    """A client that waits no longer than `timeout_seconds` for a connection or an answer."""
    # One more try at once, for a connection that a restart has cut; longer waits are the callers' business.
    retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    return Redis.from_url(url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds, retry=retry)


@asynccontextmanager
async def calling(client: Redis, doing: str) -> AsyncIterator[None]:
    """Name an error by its kind alone: Redis quotes arguments, and these are bodies."""
    try:
        yield
    except (RedisError, OSError) as error:
        if isinstance(error, ReadOnlyError):
            # The server became a replica. Its name may lead to the new primary, but not an open connection.
            await client.connection_pool.disconnect()
        raise BufferUnavailable(f"Redis {doing}: {type(error).__name__}") from error
