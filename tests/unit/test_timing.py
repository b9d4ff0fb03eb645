"""The moments that a brief names, as dates counted from the signal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.research.timing import MOST_MOMENTS, moments

# A Thursday.
SIGNAL = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "start", "end", "is_deadline"),
    [
        ("Ring within 48 hours.", 0 * HOUR, 48 * HOUR, True),
        ("Ring within the first 24 to 48 hours.", 0 * HOUR, 48 * HOUR, True),
        ("A second touch on **day 5**.", 5 * DAY, 5 * DAY, False),
        ("- Days 3\u20135: send the first mail", 3 * DAY, 5 * DAY, False),
        ("One note after ten days, no sooner.", 10 * DAY, 10 * DAY, False),
        ("Write again in 2 weeks!", 14 * DAY, 14 * DAY, False),
        ("Find them within two working days: ask.", 0 * DAY, 4 * DAY, True),
        ("Day 0: ring.", 0 * DAY, 0 * DAY, False),
    ],
)
def test_words_that_count_from_the_signal_become_dates(
    text: str, start: timedelta, end: timedelta, is_deadline: bool
) -> None:
    [found] = moments(text, SIGNAL)
    assert (found.start, found.end, found.is_deadline) == (SIGNAL + start, SIGNAL + end, is_deadline)
    assert found.words in found.sentence


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "No mail for 14 days.",
        "A check-in 30 days before renewal.",
        "Ring within 5 days of the invoice.",
        "Use fell by 3 percent.",
        "In 2024 it was so.",
        "After 900 days nobody remembers.",
    ],
)
def test_durations_and_other_counts_are_left_alone(text: str | None) -> None:
    assert moments(text, SIGNAL) == []


def test_moments_come_in_the_order_of_time_and_not_too_many() -> None:
    text = "Again on day 12. First within 2 days. " + " ".join(f"Day {n}." for n in range(20, 50))
    found = moments(text, SIGNAL)
    assert [each.words for each in found[:2]] == ["within 2 days", "day 12"]
    assert len(found) == MOST_MOMENTS


@given(st.text(alphabet="within after day5 -3hours.\n*", max_size=200))
def test_any_text_gives_an_answer(text: str) -> None:
    assert all(each.start <= each.end for each in moments(text, SIGNAL))
