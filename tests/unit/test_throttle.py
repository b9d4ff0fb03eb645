from __future__ import annotations

import itertools

import pytest

from churn_radar import throttle
from churn_radar.throttle import ALL_FAILURES, FORGET_AFTER_SECONDS, FREE_FAILURES, LONGEST_WAIT_SECONDS, Throttle

HERE, THERE = "192.0.2.1", "192.0.2.2"
OURS = b"one of ours"
_numbers = itertools.count()


def guess() -> bytes:
    """A key that nobody has tried before."""
    return b"guess %d" % next(_numbers)


def failed(guard: Throttle, times: int, address: str | None = HERE, now: float = 0.0) -> None:
    for _ in range(times):
        guard.failed(address, guess(), now)


def test_a_slip_or_two_costs_nothing() -> None:
    guard = Throttle()
    failed(guard, FREE_FAILURES - 1)
    assert guard.wait_seconds(HERE, guess(), 0.0) == 0


def test_each_further_wrong_key_doubles_the_wait_up_to_a_bound() -> None:
    guard = Throttle()
    failed(guard, FREE_FAILURES)
    waits = []
    for _ in range(12):
        waits.append(guard.wait_seconds(HERE, guess(), 0.0))
        failed(guard, 1)
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_the_wait_passes_and_others_have_none() -> None:
    guard = Throttle()
    failed(guard, FREE_FAILURES + 3)
    assert guard.wait_seconds(HERE, guess(), 5.0) == 3
    assert guard.wait_seconds(HERE, guess(), 8.0) == 0
    assert guard.wait_seconds(THERE, guess(), 0.0) == 0


def test_a_key_that_was_right_from_there_goes_on_counting_whoever_guesses_beside_it() -> None:
    guard = Throttle()
    guard.succeeded(HERE, OURS)
    failed(guard, FREE_FAILURES + 6)
    assert guard.wait_seconds(HERE, OURS, 0.0) == guard.wait_to_log_in(HERE, OURS, 0.0) == 0
    assert guard.wait_seconds(THERE, OURS, 0.0) == 0
    failed(guard, FREE_FAILURES + 6, THERE)
    assert guard.wait_seconds(THERE, OURS, 0.0) > 0, "it was never right from there"


def test_whoever_has_one_key_does_not_get_fresh_attempts_at_another_by_it() -> None:
    guard = Throttle()
    failed(guard, FREE_FAILURES + 6)
    guard.succeeded(HERE, OURS)
    assert guard.wait_seconds(HERE, guess(), 0.0) > 0


def test_an_old_key_that_comes_again_and_again_is_no_guess_and_makes_nobody_wait() -> None:
    guard = Throttle()
    assert [guard.failed(HERE, b"an old one", float(second)) for second in range(500)] == [True] + [False] * 499
    assert guard.wait_seconds(HERE, OURS, 500.0) == 0


def test_what_is_an_hour_old_is_forgotten() -> None:
    guard = Throttle()
    failed(guard, FREE_FAILURES + 6)
    failed(guard, 1, now=3600.0)
    assert guard.wait_seconds(HERE, guess(), 3600.0) == 0


def test_a_machine_does_not_get_fresh_attempts_with_each_of_its_ipv6_addresses() -> None:
    guard = Throttle()
    for number in range(FREE_FAILURES + 3):
        guard.failed(f"2001:db8::{number:x}", guess(), 0.0)
    assert guard.wait_seconds("2001:db8::ffff", guess(), 0.0) > 0
    assert guard.wait_seconds("2001:db8:0:1::1", guess(), 0.0) == 0


def test_many_addresses_together_have_to_wait_but_not_one_that_is_known() -> None:
    guard = Throttle()
    guard.succeeded(THERE, OURS)
    for number in range(ALL_FAILURES):
        guard.failed(f"198.51.100.{number}", guess(), float(number) / 10)
    assert guard.wait_to_log_in("203.0.113.1", guess(), 10.0) == 50
    assert guard.wait_to_log_in("203.0.113.1", guess(), 60.0) == 0
    assert guard.wait_to_log_in(THERE, guess(), 10.0) == 0


def test_at_the_api_many_addresses_together_keep_nobody_out() -> None:
    guard = Throttle()
    for number in range(ALL_FAILURES):
        guard.failed(f"198.51.100.{number}", guess(), 0.0)
    assert guard.wait_seconds("203.0.113.1", OURS, 0.0) == 0


@pytest.mark.parametrize("longest_wait", [0, 16, 64, 256, 512, LONGEST_WAIT_SECONDS])
def test_whatever_a_guesser_waits_for_a_day_has_some_four_hundred_keys_for_an_address(longest_wait: float) -> None:
    guard, now, tried = Throttle(), 0.0, 0
    while now < 86_400:
        key = guess()
        wait = guard.wait_seconds(HERE, key, now)
        if wait > longest_wait:
            # Rather an hour's rest, after which all is forgotten.
            wait = FORGET_AFTER_SECONDS
        now += wait
        tried += guard.failed(HERE, key, now)
    assert tried < 420


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MOST_ADDRESSES", 10)
    guard = Throttle()
    for number in range(50):
        guard.failed(f"198.51.100.{number}", guess(), 0.0)
        guard.succeeded(f"203.0.113.{number}", OURS)
    assert len(guard._by_address) == len(guard._known) == 10
    assert len(guard._all) <= ALL_FAILURES
