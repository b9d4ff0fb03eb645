"""How fast an upstream may be called: the windows that both services count calls in. No network here.

Both services count calls in a sliding window: 10 in one second for a Customer.io workspace, N in sixty for a
Mavera key. `WindowPace` keeps its own window a little longer than theirs, because the time between two calls'
leaving is not the time between their arriving: the first call of a burst may have had to open a connection.
"""

from __future__ import annotations

import math
from typing import Protocol

from pyrate_limiter import InMemoryBucket, Limiter, MonotonicClock, Rate, RateItem, SingleBucketFactory

from churn_radar.upstream.rate import SHORT_WINDOW_SECONDS

# Next to nothing, because in a window of a second calls count from their answers, which are the proof that they have
# arrived (`Throttle.room_at`); it covers the difference of two clocks' rates.
SPREAD_SECONDS = 0.01
# For a window of a minute. Half of it is for the way to the service; the other half for what delays a call here: one
# that is delayed for longer counts anew when it goes out (decision 37).
LONG_SPREAD_SECONDS = 0.5


class Turn(Protocol):
    """Leave for one call to go out."""

    def sent(self, seconds: float) -> None:
        """Say that the call is on the wire, so long after its turn had come; never waits.

        A connection had to be opened first, or the machine was held up: the call arrives later than its turn said.
        """
        ...

    def over(self) -> None:
        """Say that the call has ended, or does not go out after all; never waits. Twice is once."""
        ...


class Pace(Protocol):
    """Whatever decides when the next call may go out; shared by all calls that count against one limit."""

    @property
    def calls(self) -> int:
        """Calls in any window, by the settings."""
        ...

    @property
    def seconds(self) -> float:
        """The window."""
        ...

    @property
    def taken(self) -> int | None:
        """Calls of everybody in the window that ended with the last turn; None when no one else shares the limit."""
        ...

    async def wait(self) -> Turn:
        """Return when one more call may go out now; that call is then counted."""
        ...

    def keep_to(self, calls: int) -> None:
        """From now on at most `calls` in any window, calls already counted included."""
        ...

    def stay_away(self, seconds: float) -> None:
        """Tell whoever shares the limit that no call is to leave for so long."""
        ...


class _FreeTurn:
    """Nobody else counts on hearing of it."""

    def sent(self, seconds: float) -> None:
        """Whenever."""

    def over(self) -> None:
        """Nothing to give back."""


FREE_TURN = _FreeTurn()


class _OwnTurn:
    """A turn within one process: its place in the window passes by itself."""

    __slots__ = ("_pace",)

    def __init__(self, pace: WindowPace) -> None:
        self._pace = pace

    def sent(self, seconds: float) -> None:
        """The call is on the wire."""
        self._pace.count_late(seconds)

    def over(self) -> None:
        """Nothing to give back."""


class WindowPace:
    """At most `calls` in any `seconds`, in order of asking; for one process.

    `spread_seconds` is how much later than a younger call an older one may arrive without the upstream
    seeing more than `calls` in its window; a call that leaves so much as half of it too late counts once more.
    """

    def __init__(self, calls: int, seconds: float, *, spread_seconds: float) -> None:
        self.calls = calls
        self.seconds = seconds
        self.spread_seconds = spread_seconds
        self.taken: int | None = None
        self._kept_to = calls
        self._window = math.ceil((seconds + spread_seconds) * 1000)
        self._bucket = InMemoryBucket([Rate(calls, self._window)])
        self._clock = MonotonicClock()
        # Without the leaker: it would be a thread with an event loop of its own, for a list of a few entries.
        # The default buffer of 50 ms on top of every wait is longer than a whole turn of a 10 per second limit.
        self._limiter = Limiter(SingleBucketFactory(self._bucket, schedule_leak=False), buffer_ms=1)

    async def wait(self) -> Turn:
        """Return when a call may go out; waiting callers go in the order in which they came."""
        self._bucket.leak(self._clock.now())
        await self._limiter.try_acquire_async()
        return _OwnTurn(self)

    def count_late(self, seconds: float) -> None:
        """A call is on the wire, so long after its turn. Unless that was soon, it takes another place, from now on."""
        if seconds > self.spread_seconds / 2 and self.seconds > SHORT_WINDOW_SECONDS:
            self._bucket.items.append(RateItem("late", self._clock.now()))

    def keep_to(self, calls: int) -> None:
        """Change how many calls a window holds; a caller who waits already waits by the new number."""
        if calls != self._kept_to:
            self._kept_to = calls
            self._bucket.rates = [Rate(calls, self._window)]

    def stay_away(self, seconds: float) -> None:
        """Nobody shares it; the caller itself knows."""


def per_second(calls: float) -> WindowPace:
    """The App API's kind of limit. 2.5 means 2 in any second (never 3), 0.5 means 1 in any two seconds."""
    if calls < 1:
        return WindowPace(1, 1 / calls, spread_seconds=SPREAD_SECONDS)
    return WindowPace(math.floor(calls), 1.0, spread_seconds=SPREAD_SECONDS)


def per_minute(calls: int) -> WindowPace:
    """Mavera's kind of limit: so many in any sixty seconds."""
    return WindowPace(calls, 60.0, spread_seconds=LONG_SPREAD_SECONDS)
