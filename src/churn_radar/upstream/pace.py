"""How fast an upstream may be called, and what it says about the calls that are left. No network here.

Both services count calls in a sliding window: 10 in one second for a Customer.io workspace, N in sixty for a
Mavera key. `WindowPace` keeps its own window a little longer than theirs, because the time between two calls'
leaving is not the time between their arriving: the first call of a burst may have had to open a connection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pyrate_limiter import InMemoryBucket, Limiter, MonotonicClock, Rate, SingleBucketFactory

LONGEST_HOLD_SECONDS = 60.0


class Pace(Protocol):
    """Whatever decides when the next call may go out; shared by all calls that count against one limit."""

    async def wait(self) -> None:
        """Return when one more call may go out now; that call is then counted."""


class WindowPace:
    """At most `calls` in any `seconds`, in order of asking; for one process.

    `spread_seconds` is how much later than a younger call an older one may arrive without the upstream
    seeing more than `calls` in its window.
    """

    def __init__(self, calls: int, seconds: float, *, spread_seconds: float) -> None:
        window = math.ceil((seconds + spread_seconds) * 1000)
        self._bucket = InMemoryBucket([Rate(calls, window)])
        self._clock = MonotonicClock()
        # Without the leaker: it would be a thread with an event loop of its own, for a list of a few entries.
        # The default buffer of 50 ms on top of every wait is longer than a whole turn of a 10 per second limit.
        self._limiter = Limiter(SingleBucketFactory(self._bucket, schedule_leak=False), buffer_ms=1)

    async def wait(self) -> None:
        """Return when a call may go out; waiting callers go in the order in which they came."""
        self._bucket.leak(self._clock.now())
        await self._limiter.try_acquire_async()


def per_second(calls: float) -> WindowPace:
    """The App API's kind of limit. 2.5 means 2 in any second (never 3), 0.5 means 1 in any two seconds."""
    if calls < 1:
        return WindowPace(1, 1 / calls, spread_seconds=0.25)
    return WindowPace(math.floor(calls), 1.0, spread_seconds=0.25)


def per_minute(calls: int) -> WindowPace:
    """Mavera's kind of limit: so many in any sixty seconds."""
    return WindowPace(calls, 60.0, spread_seconds=1.0)


@dataclass(frozen=True, slots=True)
class RateSeen:
    """What an answer's `X-RateLimit-*` headers said; None where one was absent or unreadable."""

    limit: int | None
    remaining: int | None
    reset_at: datetime | None

    def hold_until(self, now: float) -> float:
        """When the next call may go out, in unix seconds: at the reset when nothing is left, at most a minute on."""
        if self.remaining != 0 or self.reset_at is None:
            return now
        return min(max(now, self.reset_at.timestamp()), now + LONGEST_HOLD_SECONDS)


def read_rate(headers: Mapping[str, str]) -> RateSeen | None:
    """Read Mavera's documented rate headers (Reset in unix seconds); None when an answer carries none of them."""
    limit, remaining, reset = (_count(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining", "reset"))
    if limit is None and remaining is None and reset is None:
        return None
    return RateSeen(limit, remaining, _moment(reset))


def _count(text: str | None) -> int | None:
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else None


def _moment(seconds: int | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
