"""No buffer: what is put goes straight into the record, and there is nothing to take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from churn_radar.buffer.drain import Accept, Read, read_raw
from churn_radar.buffer.protocol import RawEvent, Taken
from churn_radar.store.arrivals import Accepted


class NoBuffer:
    """The buffer of whoever has none: held means committed to the record."""

    name = "none"

    def __init__(self, accept: Accept, read: Read, *, waiting: Callable[[], int] = lambda: 0) -> None:
        self._accept = accept
        self._read = read
        self._waiting = waiting

    def put(self, event: RawEvent) -> asyncio.Future[None]:
        """Commit what the event says, when it says anything for us."""
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        arrival = read_raw(event, self._read)
        if arrival is None:
            held.set_result(None)
            return held

        def settle(accepted: asyncio.Future[Accepted]) -> None:
            if held.done() or accepted.cancelled():
                held.cancel()
            elif error := accepted.exception():
                held.set_exception(error)
            else:
                held.set_result(None)

        self._accept(arrival).add_done_callback(settle)
        return held

    async def take(self, limit: int, wait: timedelta) -> list[Taken]:
        """Nothing, after the wait."""
        await asyncio.sleep(wait.total_seconds())
        return []

    async def done(self, tokens: Sequence[str]) -> None:
        """Nothing is held."""

    async def hold(self, tokens: Sequence[str]) -> None:
        """Nothing is held."""

    async def release(self, tokens: Sequence[str]) -> None:
        """Nothing is held."""

    async def length(self) -> int:
        """Events that wait for their commit."""
        return self._waiting()

    async def check(self) -> list[str]:
        """The record's own check is the one that counts."""
        return []
