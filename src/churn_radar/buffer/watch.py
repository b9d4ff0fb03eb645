"""How a buffer stands, for readiness and Prometheus."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from churn_radar.buffer.protocol import Buffer
from churn_radar.counts import counted
from churn_radar.errors import BufferUnavailable

# Anyone may ask, and a queue of SQS is paid for by the question.
LOOK_EVERY_SECONDS = 2.0
LONGEST_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Level:
    """How many events a buffer holds, None while it does not answer; and why it takes none, when it does not."""

    waiting: int | None
    problem: str | None = None


@dataclass
class Watch:
    """Asks a buffer for its level, at most every two seconds."""

    buffer: Buffer
    max_length: int
    _level: Level = field(default_factory=lambda: Level(None), repr=False)
    _looked_at: float = field(default=float("-inf"), repr=False)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def look(self) -> Level:
        """How it stands now, or stood two seconds ago."""
        async with self._looking:
            if time.monotonic() - self._looked_at > LOOK_EVERY_SECONDS:
                self._level = await self._look()
                self._looked_at = time.monotonic()
        return self._level

    async def _look(self) -> Level:
        try:
            async with asyncio.timeout(LONGEST_LOOK_SECONDS):
                waiting = await self.buffer.length()
        except BufferUnavailable as error:
            return Level(None, str(error))
        except TimeoutError:
            return Level(None, "it does not answer")
        return Level(waiting, f"it is full: {counted(waiting, 'event')}" if waiting >= self.max_length else None)
