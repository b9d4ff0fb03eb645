from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from churn_radar.research.budget import (
    MOST_CREDITS,
    UNTOLD_CREDITS,
    WAITS_FOR_BUDGET,
    Budget,
    Charge,
    CreditsFor,
    Spent,
    Standing,
    charges,
    month_of,
    waits_because,
)
from churn_radar.settings import Environment, IsolatedSettings

LIMITED = Budget(1000, Decimal(500))


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        (datetime(2026, 11, 24, 12, tzinfo=UTC), (2026, 11), (2026, 12)),
        (datetime(2026, 11, 1, tzinfo=UTC), (2026, 11), (2026, 12)),
        (datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), (2026, 12), (2027, 1)),
        (datetime(2028, 2, 29, tzinfo=UTC), (2028, 2), (2028, 3)),
        (datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), (2026, 11), (2026, 12)),
    ],
)
def test_a_month_is_that_of_the_calendar_in_utc(now: datetime, start: tuple[int, int], end: tuple[int, int]) -> None:
    month = month_of(now)
    assert (month.start, month.end) == (datetime(*start, 1, tzinfo=UTC), datetime(*end, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("spent", "standing"),
    [
        (0, Standing.FINE),
        (799, Standing.FINE),
        (800, Standing.NEARLY_SPENT),
        (999, Standing.NEARLY_SPENT),
        (1000, Standing.SPENT),
        (1001, Standing.SPENT),
    ],
)
def test_a_budget_is_nearly_spent_from_80_per_cent_on_and_spent_at_100(spent: int, standing: Standing) -> None:
    assert LIMITED.standing(Spent(spent)) is standing


def test_calls_under_way_do_not_count_before_their_price_is_known() -> None:
    assert LIMITED.standing(Spent(799, under_way=10_000)) is Standing.FINE


@pytest.mark.parametrize(
    ("spent", "mrr", "covered"),
    [(999, "0", True), (1000, "499.99", False), (1000, "500", True), (5000, "11800", True), (1000, "0", False)],
)
def test_a_spent_budget_covers_only_accounts_of_the_set_mrr_or_more(spent: int, mrr: str, covered: bool) -> None:
    assert LIMITED.covers(Spent(spent), Decimal(mrr)) is covered


def test_without_a_limit_everything_is_covered() -> None:
    assert Budget().covers(Spent(MOST_CREDITS), Decimal(0))
    assert Budget().standing(Spent(MOST_CREDITS)) is Standing.FINE


def test_the_reason_says_how_much_of_which_month_is_spent_and_when_it_goes_on() -> None:
    reason = waits_because(Budget(10_000), Spent(10_012), month_of(datetime(2026, 12, 24, tzinfo=UTC)))
    assert reason.startswith(f"{WAITS_FOR_BUDGET}: 10,012 of 10,000 credits of December 2026 spent; ")
    assert "on 1 January (UTC)" in reason


@pytest.mark.parametrize(
    ("brief", "lost", "unanswered", "entries"),
    [
        (42, 0, 0, [Charge(42, CreditsFor.BRIEF)]),
        (0, 0, 0, [Charge(UNTOLD_CREDITS, CreditsFor.BRIEF)]),
        (None, 0, 0, []),
        (None, 12, 0, [Charge(12, CreditsFor.LOST)]),
        (None, 0, 2, [Charge(2 * UNTOLD_CREDITS, CreditsFor.UNANSWERED)]),
        (
            30,
            12,
            1,
            [Charge(30, CreditsFor.BRIEF), Charge(12, CreditsFor.LOST), Charge(UNTOLD_CREDITS, CreditsFor.UNANSWERED)],
        ),
        (10**40, 10**40, 0, [Charge(MOST_CREDITS, CreditsFor.BRIEF), Charge(MOST_CREDITS, CreditsFor.LOST)]),
    ],
)
def test_an_attempt_is_charged_for_its_brief_for_what_was_lost_and_for_what_nobody_told(
    brief: int | None, lost: int, unanswered: int, entries: list[Charge]
) -> None:
    assert charges(brief=brief, lost=lost, unanswered=unanswered) == entries


def test_whoever_sets_no_mrr_for_a_spent_budget_gets_that_of_high_mrr() -> None:
    def budget(**told: object) -> Budget:
        return IsolatedSettings(environment=Environment.DEVELOPMENT, **told).budget  # type: ignore[arg-type]

    assert budget() == Budget(None, Decimal(500))
    assert budget(monthly_credits=900, high_mrr=750) == Budget(900, Decimal(750))
    assert budget(monthly_credits=900, high_mrr=750, over_budget_mrr=0) == Budget(900, Decimal(0))
