"""Opening the buffer that CHURN_RADAR_BUFFER_URL names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from churn_radar.buffer.protocol import Buffer, BufferOptions
from churn_radar.buffer.url import RedisPlace, read_buffer_url
from churn_radar.errors import SettingsError

VARIABLE = "CHURN_RADAR_BUFFER_URL"


@asynccontextmanager
async def open_buffer(url: str, options: BufferOptions) -> AsyncIterator[Buffer]:
    """The buffer at `url`, for as long as the context lasts. One that is away now is waited for.

    Raises SettingsError, one line, for a URL that names none, a package that is not installed, and a server that
    refuses us for good.
    """
    try:
        place = read_buffer_url(url)
    except ValueError as error:
        raise SettingsError([f"{VARIABLE}: {error}"]) from None
    if isinstance(place, RedisPlace):
        # Imported here, for only whoever uses it has its package.
        try:
            from churn_radar.buffer.redis_streams import RedisBuffer
        except ImportError:
            raise _not_installed("redis") from None
        async with aclosing(await RedisBuffer.create(place, options)) as buffer:
            yield buffer
    else:
        try:
            from churn_radar.buffer.sqs import open_sqs
        except ImportError:
            raise _not_installed("sqs") from None
        async with open_sqs(place, options) as queue:
            yield queue


def _not_installed(extra: str) -> SettingsError:
    return SettingsError([f"{VARIABLE}: its package is not installed; install churn-radar[{extra}]"])
