from __future__ import annotations

from datetime import timedelta

import pytest

from churn_radar.errors import GiveUp, OperatorMustAct, RetryLater
from churn_radar.work.retry import OPERATOR_DELAY, Bury, TryAgain, decide, jittered

LADDER = tuple(timedelta(seconds=s) for s in (60, 300, 1800))


def exactly(delay: timedelta) -> timedelta:
    return delay


def later(seconds: float | None = None) -> RetryLater:
    return RetryLater("mavera", "busy", retry_after=None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 60), (1, 300), (2, 1800)])
def test_each_failure_waits_for_the_next_rung_of_the_ladder(attempts: int, seconds: int) -> None:
    assert decide(later(), attempts=attempts, delays=LADDER, jitter=exactly) == TryAgain(
        timedelta(seconds=seconds), attempts + 1
    )


@pytest.mark.parametrize("attempts", [3, 4, 100])
def test_after_the_last_rung_the_signal_is_buried(attempts: int) -> None:
    assert decide(later(), attempts=attempts, delays=LADDER, jitter=exactly) == Bury(attempts + 1)


def test_a_ladder_without_rungs_buries_at_once() -> None:
    assert decide(later(), attempts=0, delays=(), jitter=exactly) == Bury(1)


def test_what_will_never_work_is_buried_at_the_first_failure() -> None:
    assert decide(GiveUp("mavera", "bad request", status=400), attempts=0, delays=LADDER) == Bury(1)


@pytest.mark.parametrize("attempts", [0, 3, 99])
def test_the_operators_mistake_costs_no_attempt_and_never_kills(attempts: int) -> None:
    error = OperatorMustAct("mavera", "credits are spent", status=402)

    assert decide(error, attempts=attempts, delays=LADDER, jitter=exactly) == TryAgain(OPERATOR_DELAY, attempts)


def test_a_longer_wait_that_the_upstream_asks_for_is_obeyed() -> None:
    assert decide(later(3600), attempts=0, delays=LADDER, jitter=exactly) == TryAgain(timedelta(hours=1), 1)


def test_a_shorter_wait_that_the_upstream_asks_for_does_not_shorten_the_ladder() -> None:
    assert decide(later(1), attempts=0, delays=LADDER, jitter=exactly) == TryAgain(timedelta(seconds=60), 1)


def test_jitter_never_brings_the_attempt_before_what_the_upstream_asked_for() -> None:
    asked = timedelta(seconds=60)

    decision = decide(later(60), attempts=0, delays=LADDER, jitter=lambda delay: delay * 0.9)

    assert isinstance(decision, TryAgain)
    assert decision.delay == asked


def test_an_unexpected_exception_climbs_the_same_ladder() -> None:
    assert decide(ValueError("a bug"), attempts=0, delays=LADDER, jitter=exactly) == TryAgain(LADDER[0], 1)
    assert decide(ValueError("a bug"), attempts=3, delays=LADDER, jitter=exactly) == Bury(4)


@pytest.mark.parametrize(("drawn", "seconds"), [(0.9, 90), (1.0, 100), (1.1, 110)])
def test_jitter_spreads_by_a_tenth_to_both_sides(drawn: float, seconds: int) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return drawn

    assert jittered(timedelta(seconds=100), uniform) == timedelta(seconds=seconds)
    assert asked == [(0.9, 1.1)]


def test_a_thousand_signals_do_not_come_back_in_the_same_second() -> None:
    decisions = [decide(later(), attempts=1, delays=LADDER) for _ in range(1000)]

    delays = {decision.delay for decision in decisions if isinstance(decision, TryAgain)}
    assert len(delays) > 900
    assert all(timedelta(seconds=270) <= delay <= timedelta(seconds=330) for delay in delays)
