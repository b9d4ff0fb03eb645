"""When to try again, and when to give up. Pure: decisions are values, the steps carry them out.

Blips of seconds are ridden out inside a call by the clients. What is decided here is the ladder after that:
minutes to a day, jittered so that a thousand signals do not come back in the same second, never earlier than
the upstream asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from churn_radar.errors import GiveUp, OperatorMustAct, RetryLater

# Where nobody keeps count of the trouble: a sink's refusal. `churn_radar.work.troubles` has the upstreams' intervals.
OPERATOR_DELAY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Attempt number `attempt` comes after `delay`."""

    delay: timedelta
    attempt: int


@dataclass(frozen=True, slots=True)
class Bury:
    """No further attempt: a dead letter, with its reason, until somebody replays it."""

    attempt: int


def jittered(delay: timedelta, uniform: Callable[[float, float], float] = random.uniform) -> timedelta:
    """The delay, spread by a tenth to both sides."""
    return delay * uniform(0.9, 1.1)


def decide(
    error: Exception,
    *,
    attempts: int,
    delays: Sequence[timedelta],
    jitter: Callable[[timedelta], timedelta] = jittered,
    operator_delay: timedelta = OPERATOR_DELAY,
) -> TryAgain | Bury:
    """What to do after a failure, when `attempts` were already counted before it.

    An operator's mistake (a wrong key, spent credits) costs no attempt: no signal dies of it. It is tried again
    after `operator_delay`.
    """
    if isinstance(error, OperatorMustAct):
        return TryAgain(operator_delay, attempts)
    if isinstance(error, GiveUp) or attempts >= len(delays):
        return Bury(attempts + 1)
    delay = jitter(delays[attempts])
    if isinstance(error, RetryLater) and error.retry_after is not None:
        delay = max(delay, error.retry_after)
    return TryAgain(delay, attempts + 1)
