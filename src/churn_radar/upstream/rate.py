"""What an upstream shows of its limit, in headers and in refusals, and what follows for the next calls. Pure.

The settings say how fast a service may be called. That can be wrong, or others may share the limit, so three
things slow the calls down further: a limit in the headers below the setting; headers that say nothing is left; and
429, which counts for a limit that nobody told (the App API documents no rate headers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

LONGEST_HOLD_SECONDS = 60.0
# How long to stay away after a 429 that does not say; a window that is shorter has passed sooner.
UNTOLD_HOLD_SECONDS = 10.0
# A 429 while hardly anything is called says little about our own share: one burst of them slows down no further.
LEAST_SHARE = 4
# What was learned is forgotten step by step: each may cost a 429 again, so they are small and a minute apart.
STEP_UP_SECONDS = 60.0
STEPS = 20
# In so short a window it matters when a call arrives, and all that is known of that is: before its answer.
SHORT_WINDOW_SECONDS = 5.0
# Calls of ours that an answer may count and we do not, or the other way round: under way at other replicas since our
# last turn, or leaving the window just now. Of a small limit a twentieth.
UNSEEN_CALLS = 10
UNSEEN_SHARE = 20
SLACK_SECONDS = 1.0
# A call on its way for so long has arrived: a slow answer must not make the limit smaller.
LONGEST_WAY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RateSeen:
    """What an answer's `X-RateLimit-*` headers said; None where one was absent or unreadable."""

    limit: int | None
    remaining: int | None
    reset_at: datetime | None

    def hold_until(self, now: float) -> float:
        """When the next call may go out, in unix seconds: at the reset when nothing is left, at most a minute on."""
        return now + self.reset_in(now) if self.remaining == 0 else now

    def reset_in(self, now: float) -> float:
        """Seconds from `now` (unix seconds) to the reset: at most a minute, 0 when it is past or was not told."""
        if self.reset_at is None:
            return 0.0
        return min(max(0.0, self.reset_at.timestamp() - now), LONGEST_HOLD_SECONDS)


@dataclass(frozen=True, slots=True)
class RateInForce:
    """How fast a service is called right now, and why. Windows and waits in seconds.

    `limit` is the setting and `in_force` what is kept to: calls in any `window_seconds`. `told` are the headers that
    came last, at `told_at`. `held_seconds` is how much longer no call goes out at all. `too_many` counts the answers
    with 429 since the start.
    """

    service: str
    limit: int
    window_seconds: float
    in_force: int
    told: RateSeen | None
    told_at: datetime | None
    held_seconds: float
    in_flight: int
    concurrency: int
    too_many: int


class Throttle:
    """Keeps what one service showed of its limit. Every `now` is of a clock that never jumps, in seconds.

    No call may leave before `hold_until`.
    """

    def __init__(self, calls: int, seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds
        self._told: int | None = None
        self._shown: int | None = None
        self._shown_at = -math.inf
        self._least = 1
        self._left: int | None = None
        self._shared: int | None = None
        self._reset = -math.inf
        self.hold_until = -math.inf
        self._held_at: float | None = None
        self._departures: list[float] = []
        self._under_way: list[float] = []
        self._ended: list[float] = []

    def in_force(self, now: float) -> int:
        """Calls a window that may be made: the setting, or less."""
        self._step_up(now)
        return min(limit for limit in (self._calls, self._told, self._shown) if limit is not None)

    def room_at(self, now: float) -> float:
        """When one more call fits into a short window whatever way the earlier ones took; earlier, as answers come.

        The window is the service's, by its clock of arrivals. A loaded machine can hold a call up after it has left,
        and the ones behind it then arrive too close to it.
        """
        if self._seconds > SHORT_WINDOW_SECONDS:
            return now
        arrived = [*self._ended, *(min(left + LONGEST_WAY_SECONDS, now) for left in self._under_way)]
        most = self.in_force(now)
        return now if len(arrived) < most else sorted(arrived)[-most] + self._seconds

    def ended(self, left_at: float, now: float) -> None:
        """A call that left at `left_at` is over, answered or not."""
        self._under_way.remove(left_at)
        horizon = now - self._seconds
        arrived = min(left_at + LONGEST_WAY_SECONDS, now)
        self._ended = [*(each for each in self._ended if each > horizon), arrived]

    def leave(self, now: float) -> None:
        """A call leaves. After a hold each makes the next one wait its even share of the window.

        All that waited would otherwise leave at the same instant, into a window with a single free place.
        """
        self._under_way.append(now)
        horizon = now - 2 * self._seconds
        self._departures = [*(each for each in self._departures if each > horizon), now]
        if self._left is not None:
            self._left -= 1
            self._hold_when_spent(now)
        if self._held_at is not None:
            self.hold_until = max(self.hold_until, now + self._seconds / self.in_force(now))

    def answered(
        self, left_at: float, now: float, told: RateSeen | None, *, reset_in: float, shared: int | None = None
    ) -> None:
        """A call that left at `left_at` was answered, with these headers; `reset_in` is their reset, from now.

        `shared` are the calls of everybody who shares the limit, in the window of the last turn.
        """
        self._shared = shared
        if told is not None:
            self._listen(told, now, reset_in)
        nothing_left = told is not None and told.remaining == 0 and not self._is_full_of_ours(now)
        if self._held_at is not None and left_at > self._held_at and not nothing_left:
            # It had waited for every hold there was; what still holds is the even share alone.
            self._held_at = None
            self.hold_until = min(self.hold_until, now)

    def refused(
        self,
        left_at: float,
        now: float,
        told: RateSeen | None,
        *,
        reset_in: float,
        wait: float | None,
        shared: int | None = None,
    ) -> None:
        """A call that left at `left_at` was answered 429; `wait` is its Retry-After in seconds.

        `shared` are the calls of everybody who shares the limit, in the window of the last turn.
        """
        if left_at in self._departures:
            self._departures.remove(left_at)
        self._shared = 0
        if told is not None:
            self._listen(told, now, reset_in)
        if wait is None and (told is None or told.limit is None):
            self._learn(left_at, now, None if shared is None else shared - 1)
        self.stay_away(now, min(self._seconds, UNTOLD_HOLD_SECONDS) if wait is None else wait)

    def stay_away(self, now: float, seconds: float) -> None:
        """Let no call leave for so long, at most a minute."""
        if seconds > 0:
            self.hold_until = max(self.hold_until, now + min(seconds, LONGEST_HOLD_SECONDS))
            self._held_at = now

    def _listen(self, told: RateSeen, now: float, reset_in: float) -> None:
        if told.limit:
            self._told = told.limit
        self._left, self._reset = told.remaining, now + reset_in
        self._hold_when_spent(now)

    def _hold_when_spent(self, now: float) -> None:
        if self._left is not None and self._left <= 0 and not self._is_full_of_ours(now):
            self.stay_away(now, self._reset - now)

    def _is_full_of_ours(self, now: float) -> bool:
        """Whether the service's window is full of our own calls alone.

        Then the pace, which counts them, knows when there is room again, and better: a reset is told in whole seconds.
        """
        if self._told is None:
            return False
        since = now - self._seconds - SLACK_SECONDS
        ours = max(sum(each > since for each in self._departures), self._shared or 0)
        return ours >= self._told - min(UNSEEN_CALLS, self._told // UNSEEN_SHARE)

    def _learn(self, left_at: float, now: float, shared: int | None) -> None:
        """As many as it took in the window before the refused call: that is what it allows, to us."""
        own = sum(left_at - self._seconds < each <= left_at for each in self._departures)
        taken = own if shared is None else max(own, shared)
        in_force = self.in_force(now)
        if self._shown is None or left_at > self._shown_at:
            self._least = max(1, in_force // LEAST_SHARE)
        self._shown = min(in_force, max(taken, self._least))
        self._shown_at = now

    def _step_up(self, now: float) -> None:
        if self._shown is None:
            return
        steps = int((now - self._shown_at) // STEP_UP_SECONDS)
        self._shown += steps * max(1, self._calls // STEPS)
        self._shown_at += steps * STEP_UP_SECONDS
        if self._shown >= self._calls:
            self._shown = None


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
