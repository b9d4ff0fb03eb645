from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.errors import SettingsError
from churn_radar.sinks import render
from churn_radar.sinks.digest import (
    Dear,
    Figures,
    Period,
    Plan,
    digest_message,
    due_period,
    first_day,
    next_due,
    read_plans,
    with_missed,
)
from churn_radar.sinks.message import Link


def plan(**told: Any) -> Plan:
    [made] = read_plans([{"name": "morning", "sink": "desk", **told}], {"desk"})
    return made


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "now", "period"),
    [
        ({}, "2026-11-24T08:00", Period("2026-11-24", at("2026-11-23T08:00"), at("2026-11-24T08:00"))),
        ({}, "2026-11-24T07:59", Period("2026-11-23", at("2026-11-22T08:00"), at("2026-11-23T08:00"))),
        (
            {"time_zone": "Europe/Berlin", "at": "09:30"},
            "2026-11-24T08:30",
            Period("2026-11-24", at("2026-11-23T08:30"), at("2026-11-24T08:30")),
        ),
        (
            {"time_zone": "Pacific/Auckland", "at": "00:15"},
            "2026-11-24T11:15",
            Period("2026-11-25", at("2026-11-23T11:15"), at("2026-11-24T11:15")),
        ),
        (
            {"every": "week", "on": "monday", "at": "08:00"},
            "2026-11-24T12:00",
            Period("2026-W48", at("2026-11-16T08:00"), at("2026-11-23T08:00")),
        ),
        (
            {"every": "week", "on": "friday"},
            "2027-01-01T09:00",
            Period("2026-W53", at("2026-12-25T08:00"), at("2027-01-01T08:00")),
        ),
    ],
)
def test_a_digest_is_due_at_its_time_and_tells_of_what_came_since_the_one_before(
    told: dict[str, Any], now: str, period: Period
) -> None:
    assert due_period(plan(**told), at(now)) == period


@pytest.mark.parametrize("told", [{}, {"every": "week", "on": "sunday"}])
def test_the_names_of_periods_tell_their_order(told: dict[str, Any]) -> None:
    moments = [at("2026-12-20T09:00") + timedelta(days=days) for days in range(30)]
    days = [first_day(due_period(plan(**told), moment).name) for moment in moments]
    assert days == sorted(days)
    assert len(set(days)) == len({due_period(plan(**told), moment).name for moment in moments})


def test_where_the_clock_skips_the_time_it_is_due_right_after_the_gap() -> None:
    """In Berlin 02:30 does not exist on 29 March 2026."""
    nightly = plan(time_zone="Europe/Berlin", at="02:30")

    assert next_due(nightly, at("2026-03-28T12:00")) == at("2026-03-29T01:30")
    assert due_period(nightly, at("2026-03-29T01:29")).name == "2026-03-28"
    assert due_period(nightly, at("2026-03-29T01:30")).name == "2026-03-29"


def test_where_the_time_comes_twice_it_is_due_the_first_time_and_not_again() -> None:
    """In Berlin 02:30 comes twice on 25 October 2026."""
    nightly = plan(time_zone="Europe/Berlin", at="02:30")

    assert next_due(nightly, at("2026-10-24T12:00")) == at("2026-10-25T00:30")
    assert {due_period(nightly, at("2026-10-25T00:30") + timedelta(minutes=m)).name for m in (0, 60, 61)} == {
        "2026-10-25"
    }


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001  hypothesis wants them naive
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.sampled_from(["day", "week"]),
    st.times(),
)
def test_at_any_moment_one_period_is_due_and_the_next_one_is_later(
    moment: datetime, zone: str, every: str, time_of_day: Any
) -> None:
    now = moment.replace(tzinfo=UTC)
    made = plan(time_zone=zone, every=every, at=time_of_day)

    period, upcoming = due_period(made, now), next_due(made, now)

    assert period.since < period.until <= now < upcoming
    assert due_period(made, upcoming).until == upcoming
    assert due_period(made, upcoming).name != period.name


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"sink": "nowhere"}, "there is no chat or mail sink 'nowhere'"),
        ({"every": "hour"}, "every"),
        ({"on": "friday"}, 'write every = "week" as well'),
        ({"every": "week", "on": "caturday"}, "on: has to be one of monday"),
        ({"at": "25:00"}, "at"),
        ({"at": "08:00+02:00"}, "the zone is time_zone"),
        ({"time_zone": "Europe/Nowhere"}, "not a time zone's name"),
        ({"time_zone": "../../etc/passwd"}, "not a time zone's name"),
        ({"name": ""}, "name"),
        ({"zone": "UTC"}, "there is no such key"),
    ],
)
def test_a_digest_that_makes_no_sense_stops_the_start_with_one_line(told: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        plan(**told)

    [line] = caught.value.problems
    assert line.startswith("CHURN_RADAR_SINKS_FILE: digest number 1")
    assert said in line


def test_two_digests_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="there twice"):
        read_plans([{"name": "a", "sink": "desk"}] * 2, {"desk"})


FIGURES = Figures(
    briefs=3,
    brief_mrr=Decimal(1900),
    kinds={"unsubscribed": 2, "complained": 1},
    dearest=[Dear("brf_1", "High-MRR Fintech (Pro plan)", "complained", Decimal(850))],
    outcomes={"saved": (1, Decimal(850))},
    at_risk=7,
    at_risk_mrr=Decimal("12400.50"),
    waiting=2,
    dead=1,
    undelivered=0,
    came_back=1,
    put_aside=4,
)
PERIOD = Period("2026-11-24", at("2026-11-23T08:00"), at("2026-11-24T08:00"))


def test_a_digest_tells_what_is_at_risk_what_came_what_became_of_it_and_what_waits() -> None:
    message = digest_message(plan(), PERIOD, FIGURES, currency="USD", at_risk_days=30)

    assert message.id == "digest morning 2026-11-24"
    assert message.title == "Churn digest 2026-11-24: 3 briefs, $12,400.50 a month at risk"
    assert dict(message.facts) == {
        "At risk": "$12,400.50 a month, 7 customers, last 30 days",
        "New briefs": "3, $1,900 a month (2 unsubscribed, 1 complained)",
        "Outcomes": "1 saved ($850)",
        "Reminders": "waiting for somebody again: 1, put aside: 4",
        "Waiting": "2 signals",
    }
    assert message.lines == (("$850 a month", "complained, High-MRR Fintech (Pro plan)"),)
    assert message.caution == "Needs a look: 1 signal given up."
    shown = render.as_text(
        digest_message(
            plan(), PERIOD, FIGURES, currency="USD", at_risk_days=30, links=[Link("Open", "https://r.example/")]
        ),
        4000,
    )
    assert "https://r.example/" in shown


WEEK = {"every": "week", "on": "tuesday"}


@pytest.mark.parametrize(
    ("told", "names", "since"),
    [
        ({}, ["2026-11-23"], "2026-11-23T08:00"),
        ({}, ["2026-11-20", "2026-11-19"], "2026-11-20T08:00"),
        ({}, ["2026-11-19", "2026-11-20"], "2026-11-20T08:00"),
        ({}, ["2025-01-01"], "2026-10-20T08:00"),
        ({}, [], "2026-11-23T08:00"),
        ({}, ["2026-W40", "gibberish"], "2026-11-23T08:00"),
        # One of a later time, by a clock that was ahead.
        ({}, ["2026-11-20", "2026-12-01"], "2026-11-20T08:00"),
        (WEEK, ["2026-W47"], "2026-11-17T08:00"),
        (WEEK, ["2026-W45", "2026-11-20"], "2026-11-03T08:00"),
    ],
)
def test_a_digest_begins_where_the_last_one_that_was_told_ended_within_bounds(
    told: dict[str, Any], names: list[str], since: str
) -> None:
    period = due_period(plan(**told), at("2026-11-24T09:00"))
    whole = with_missed(plan(**told), period, names)
    assert (whole.name, whole.until, whole.since) == (period.name, period.until, at(since))
    assert whole.has_missed is (whole.since != period.since)


def test_a_digest_that_tells_of_missed_ones_says_so() -> None:
    whole = with_missed(plan(), PERIOD, ["2026-11-20"])
    facts = dict(digest_message(plan(), whole, FIGURES, currency="USD", at_risk_days=30).facts)
    assert facts["Covers"] == "all since 2026-11-20 08:00 (UTC), as the digests in between did not get through"
