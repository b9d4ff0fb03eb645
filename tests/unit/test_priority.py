from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from churn_radar.triage.priority import EPOCH, priority

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
MONEY = st.decimals(0, 10**9, places=2)


def place(mrr: str, *, hours_ago: float = 0, aging: float = 50) -> int:
    return priority(Decimal(mrr), NOW - timedelta(hours=hours_ago), aging_mrr_per_hour=aging)


def test_of_signals_that_came_together_the_dearer_goes_first() -> None:
    places = [place(mrr) for mrr in ("11800", "850", "850.01", "0.01", "0")]
    assert places[0] > places[2] > places[1] > places[3] > places[4]


def test_each_hour_of_waiting_weighs_as_much_as_the_setting_says() -> None:
    assert place("0", hours_ago=10) == place("500")
    assert place("0", hours_ago=10, aging=0) == place("0", aging=0)


def test_a_cheap_signal_overtakes_dear_newcomers_in_time() -> None:
    assert place("0", hours_ago=200) > place("9900")
    assert place("0", hours_ago=100) < place("9900")


@given(MONEY, MONEY, st.integers(0, 100_000))
def test_who_is_ahead_never_depends_on_when_one_looks(one: Decimal, other: Decimal, hours: int) -> None:
    then, later = NOW, NOW + timedelta(hours=hours)
    ahead = priority(one, then, aging_mrr_per_hour=50) - priority(other, then, aging_mrr_per_hour=50)
    still = priority(one, later, aging_mrr_per_hour=50) - priority(other, later, aging_mrr_per_hour=50)
    assert abs(ahead - still) <= 1


@given(MONEY, st.integers(0, 20 * 365 * 24))
def test_every_place_fits_the_engines_32_bits(mrr: Decimal, hours: int) -> None:
    assert -(2**31) < priority(mrr, EPOCH + timedelta(hours=hours), aging_mrr_per_hour=50) < 2**31
