"""Time, and the sliding windows that both services count calls in. No I/O."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a stand-in takes its time from: `now` in unix seconds, `sleep` in seconds."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


class SlidingWindow:
    """At most `limit` admitted calls in any `seconds`; a refused call takes no place.

    Both services document a limit over a sliding window: ten calls a second at the Customer.io App API, and a
    number of calls in 60 seconds at Mavera.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Whether a call at `now` fits; when it does, it is counted."""
        if self.remaining(now) == 0:
            return False
        self._admitted.append(now)
        return True

    def remaining(self, now: float) -> int:
        """How many more calls fit at `now`."""
        while self._admitted and self._admitted[0] <= now - self.seconds:
            self._admitted.popleft()
        return max(0, self.limit - len(self._admitted))

    def frees_at(self, now: float) -> float:
        """When the next place becomes free, in unix seconds: when the oldest counted call leaves the window."""
        self.remaining(now)
        return self._admitted[0] + self.seconds if self._admitted else now

    @classmethod
    def per_second(cls, rate: float) -> SlidingWindow:
        """A window for a rate that may be fractional: 10 a second, or 0.5 a second as one in two seconds."""
        return cls(int(rate), 1.0) if rate >= 1 else cls(1, 1.0 / rate)


@dataclass(slots=True)
class Meter:
    """The most calls that ever arrived within `seconds`, refused ones included: what a polite client keeps low."""

    seconds: float
    busiest: int = 0
    _arrivals: deque[float] = field(default_factory=deque)

    def tick(self, now: float) -> None:
        self._arrivals.append(now)
        while self._arrivals[0] <= now - self.seconds:
            self._arrivals.popleft()
        self.busiest = max(self.busiest, len(self._arrivals))
