from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from churn_radar.store.tables import Status
from churn_radar.work.selection import STATUS_PATTERN, Selection, in_utc, read_moment
from tests.support.signals import a_signal
from tests.support.work import NOON

DEAD = a_signal(
    status=Status.DEAD,
    reason="gave up after 7 attempts: mavera (503): app.mavera.io answered 503",
    attempts=7,
    failed_service="mavera",
    failed_status=503,
)


def test_without_conditions_all_of_the_status_are_meant_and_none_of_another() -> None:
    assert Selection(Status.DEAD).matches(DEAD)
    assert not Selection(Status.SKIPPED).matches(DEAD)


@pytest.mark.parametrize(("text", "found"), [("MAVERA", True), ("answered 503", True), ("customerio", False)])
def test_a_reason_is_found_anywhere_in_whatever_case(text: str, found: bool) -> None:
    assert Selection(Status.DEAD, reason=text).matches(DEAD) is found


def test_a_signal_without_a_reason_has_none_to_be_found_by() -> None:
    assert not Selection(Status.DEAD, reason="mavera").matches(replace(DEAD, reason=None))


@pytest.mark.parametrize(
    ("wanted", "answered", "found"),
    [
        ("503", 503, True),
        ("503", 500, False),
        ("5xx", 500, True),
        ("5xx", 400, False),
        ("5xx", None, False),
        ("none", None, True),
        ("none", 503, False),
    ],
)
def test_what_was_answered_last_is_given_as_a_status_a_class_or_none(
    wanted: str, answered: int | None, found: bool
) -> None:
    assert re.fullmatch(STATUS_PATTERN, wanted)
    assert Selection(Status.DEAD, failed_status=wanted).matches(replace(DEAD, failed_status=answered)) is found


def test_a_fault_of_ours_is_nobodys_missing_answer() -> None:
    ours = replace(DEAD, failed_service=None, failed_status=None)

    assert not Selection(Status.DEAD, failed_status="none").matches(ours)
    assert not Selection(Status.DEAD, failed_service="mavera").matches(ours)


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [(0, None, True), (1, None, False), (None, 0, False), (None, 1, True), (-1, 1, True), (-2, -1, False)],
)
def test_since_includes_its_moment_and_until_does_not(since: int | None, until: int | None, found: bool) -> None:
    def moment(hours: int | None) -> datetime | None:
        return None if hours is None else NOON + timedelta(hours=hours)

    assert Selection(Status.DEAD, since=moment(since), until=moment(until)).matches(DEAD) is found


def test_every_condition_has_to_be_met() -> None:
    meant = Selection(Status.DEAD, reason="mavera", failed_service="mavera", failed_status="5xx", since=NOON)

    assert meant.matches(DEAD)
    assert not replace(meant, reason="customerio").matches(DEAD)
    assert not replace(meant, failed_service="customerio").matches(DEAD)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOON - timedelta(hours=2)),
        ("30m", NOON - timedelta(minutes=30)),
        (" 7d ", NOON - timedelta(days=7)),
        ("0s", NOON),
        ("2026-11-24T10:00", NOON - timedelta(hours=2)),
        ("2026-11-24T10:00Z", NOON - timedelta(hours=2)),
        ("2026-11-24T12:00+02:00", NOON - timedelta(hours=2)),
        ("2026-11-24", NOON - timedelta(hours=12)),
    ],
)
def test_a_moment_is_written_as_time_ago_or_as_iso_8601(text: str, moment: datetime) -> None:
    assert read_moment(text, NOON) == moment
    assert read_moment(text, NOON).utcoffset() == timedelta()


@pytest.mark.parametrize("text", ["", "yesterday", "2w", "-2h", "2 h", "999999d", "2026-13-01", "12:00", "h"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="no moment"):
        read_moment(text, NOON)


def test_a_moment_without_a_zone_is_in_utc() -> None:
    assert in_utc(datetime(2026, 11, 24, 12)) == NOON  # noqa: DTZ001
    assert in_utc(datetime(2026, 11, 24, 14, tzinfo=timezone(timedelta(hours=2)))) == NOON
