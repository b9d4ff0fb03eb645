from __future__ import annotations

from datetime import timedelta

import pytest

from churn_radar.work.troubles import HAND_PROBE_DELAY, PROBE_DELAYS, Troubles
from tests.support.work import NOON

MINUTE = timedelta(minutes=1)


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


def test_without_a_trouble_nothing_is_held(troubles: Troubles) -> None:
    assert troubles.hold("mavera", NOON) is None
    assert (troubles.current, troubles.standing) == ({}, ())


def test_a_trouble_tells_since_when_it_stands_and_when_the_next_probe_is(troubles: Troubles) -> None:
    wait = troubles.report("mavera", "credits are spent", NOON, 402)

    [trouble] = troubles.standing
    assert wait == PROBE_DELAYS[0]
    assert (trouble.service, trouble.message, trouble.status) == ("mavera", "credits are spent", 402)
    assert (trouble.since, trouble.next_probe_at, trouble.probes) == (NOON, NOON + PROBE_DELAYS[0], 0)


def test_probes_are_made_at_growing_intervals_up_to_a_cap_one_call_each(troubles: Troubles) -> None:
    now = NOON
    waits = [troubles.report("mavera", "spent", now)]
    for _ in range(6):
        now += waits[-1]
        assert troubles.hold("mavera", now) is None
        assert [troubles.hold("mavera", now) is None for _ in range(5)] == [False] * 5
        waits.append(troubles.report("mavera", "spent", now))

    assert [wait / MINUTE for wait in waits] == [1, 2, 5, 10, 30, 30, 30]
    assert troubles.standing[0].since == NOON


def test_ten_calls_that_were_under_way_when_it_began_make_no_interval_longer(troubles: Troubles) -> None:
    for second in range(10):
        troubles.report("mavera", "spent", NOON + timedelta(seconds=second))

    assert troubles.standing[0].next_probe_at == NOON + PROBE_DELAYS[0]


def test_a_probe_that_never_tells_what_came_of_it_is_followed_by_another(troubles: Troubles) -> None:
    troubles.report("mavera", "spent", NOON)
    assert troubles.hold("mavera", NOON + MINUTE) is None

    held = troubles.hold("mavera", NOON + MINUTE)

    assert held == PROBE_DELAYS[1]
    assert troubles.hold("mavera", NOON + MINUTE + held) is None


def test_the_first_success_ends_it_and_is_told_once(troubles: Troubles) -> None:
    heard: list[str] = []
    troubles.on_recovered = heard.append
    troubles.report("mavera", "spent", NOON)
    troubles.report("customerio", "wrong key", NOON)

    for _ in range(3):
        troubles.clear("mavera")

    assert heard == ["mavera"]
    assert list(troubles.current) == ["customerio"]


def test_a_trouble_that_comes_back_begins_anew(troubles: Troubles) -> None:
    troubles.report("mavera", "spent", NOON)
    troubles.hold("mavera", NOON + MINUTE)
    troubles.report("mavera", "spent", NOON + MINUTE)
    troubles.clear("mavera")

    later = NOON + timedelta(days=1)
    assert troubles.report("mavera", "spent", later) == PROBE_DELAYS[0]
    assert troubles.standing[0].since == later


def test_a_replay_by_hand_probes_at_once_and_the_intervals_begin_anew(troubles: Troubles) -> None:
    now = NOON
    for _ in range(5):
        now += troubles.report("mavera", "spent", now)
        troubles.hold("mavera", now)
    troubles.report("mavera", "spent", now)
    troubles.probe_now(now)

    assert troubles.hold("mavera", now) is None
    assert troubles.report("mavera", "spent", now) == PROBE_DELAYS[1]


def test_thousands_of_replays_are_not_thousands_of_probes(troubles: Troubles) -> None:
    troubles.report("mavera", "spent", NOON)
    probes = 0
    for _ in range(1000):
        troubles.probe_now(NOON)
        if troubles.hold("mavera", NOON) is None:
            probes += 1
            troubles.report("mavera", "spent", NOON)

    assert probes == 1
    troubles.probe_now(NOON + HAND_PROBE_DELAY)
    assert troubles.hold("mavera", NOON + HAND_PROBE_DELAY) is None


def test_a_replay_before_the_trouble_does_not_use_the_hand_probe_up(troubles: Troubles) -> None:
    troubles.probe_now(NOON)
    troubles.report("mavera", "spent", NOON)
    troubles.probe_now(NOON)

    assert troubles.hold("mavera", NOON) is None
