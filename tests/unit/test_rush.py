"""When work gives way to the door of its own process, and for how long. On a clock of the tests' own."""

from __future__ import annotations

import pytest

from churn_radar.work.rush import PORTION_SECONDS, RUSH_EVENTS, SLICE_SECONDS, Rush


class Clock:
    """Stands still until somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("churn_radar.work.rush.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def come(made: Rush, events: int) -> None:
    accept = made.noting(lambda number: number)
    assert [accept(number) for number in range(events)] == list(range(events))


@pytest.mark.parametrize(("events", "rushed"), [(0, False), (RUSH_EVENTS - 1, False), (RUSH_EVENTS, True)])
def test_a_rush_is_many_events_in_a_tenth_of_a_second(clock: Clock, events: int, rushed: bool) -> None:
    made = Rush(clock)
    come(made, events)
    assert made.on is rushed


def test_a_rush_is_over_soon_after_the_last_event(clock: Clock) -> None:
    made = Rush(clock)
    come(made, RUSH_EVENTS)
    clock.now += 1.5 * SLICE_SECONDS
    assert made.on, "between two reads of a socket it goes on"
    clock.now += SLICE_SECONDS
    assert not made.on


def test_a_rush_that_ended_long_ago_is_not_taken_for_the_last_moment(clock: Clock) -> None:
    made = Rush(clock)
    come(made, RUSH_EVENTS)
    clock.now += 60
    assert not made.on


def test_a_steady_trickle_is_no_rush(clock: Clock) -> None:
    made = Rush(clock)
    for _ in range(100):
        come(made, 1)
        clock.now += 0.01
        assert not made.on


async def test_without_a_rush_nobody_waits(clock: Clock) -> None:
    assert await Rush(clock).give_way() is False
    assert clock.now == 1000.0


async def test_work_waits_for_the_end_of_a_rush(clock: Clock) -> None:
    made = Rush(clock)
    come(made, RUSH_EVENTS)
    assert await made.give_way() is False
    assert clock.now < 1000.0 + PORTION_SECONDS + SLICE_SECONDS


async def test_work_gets_a_portion_now_and_then_however_long_a_rush_lasts(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Rush(clock)

    async def more_come_meanwhile(seconds: float) -> None:
        come(made, RUSH_EVENTS)
        await clock.sleep(seconds)

    monkeypatch.setattr("churn_radar.work.rush.asyncio.sleep", more_come_meanwhile)
    come(made, RUSH_EVENTS)
    assert await made.give_way() is True
    assert PORTION_SECONDS <= clock.now - 1000.0 < PORTION_SECONDS + SLICE_SECONDS
