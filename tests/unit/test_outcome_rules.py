from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.outcome.counting import Counted, Group, Sums, day_number, day_of, difference
from churn_radar.outcome.offer import LABELS, offer_label
from churn_radar.outcome.rules import (
    MOST_NOTE_CHARACTERS,
    NotSensible,
    Outcome,
    is_open,
    read_note,
    read_owner,
    read_snooze,
)
from churn_radar.outcome.summary import all_in_all, gather
from churn_radar.simulator.moves import PLANS
from churn_radar.store.outcome_sums import add

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def brief(**told: object) -> Counted:
    fields = {
        "persona": "Pro Fintech User",
        "kind": "unsubscribed",
        "offer": "discount 20 %",
        "currency": "USD",
        "mrr": 850.0,
        "credits": 40,
        "signal_received_at": NOON,
        "created_at": NOON + timedelta(minutes=1),
    }
    return Counted(**{**fields, **told})  # type: ignore[arg-type]


def test_a_brief_is_open_until_somebody_says_how_it_ended() -> None:
    assert [o for o in (None, *Outcome) if is_open(o)] == [None, Outcome.CONTACTED]


def test_a_note_is_trimmed_and_cannot_steer_a_terminal() -> None:
    assert read_note("  took the \x1b[31myearly\x1b[0m plan\0 ") == "took the yearly plan"
    assert read_note(" \n ") is None
    with pytest.raises(NotSensible):
        read_note("n" * (MOST_NOTE_CHARACTERS + 1))


def test_an_owner_is_one_line_or_nobody() -> None:
    assert read_owner(" Ines\n Okafor ") == "Ines Okafor"
    assert read_owner("  ") is None
    assert read_owner(None) is None
    with pytest.raises(NotSensible):
        read_owner("x" * 121)


@pytest.mark.parametrize("until", [NOON, NOON - timedelta(days=1), NOON + timedelta(days=367)])
def test_a_brief_is_put_aside_until_a_moment_that_comes_within_a_year(until: datetime) -> None:
    assert read_snooze(NOON + timedelta(days=3), NOON) == NOON + timedelta(days=3)
    with pytest.raises(NotSensible):
        read_snooze(until, NOON)


@pytest.mark.parametrize(
    ("section", "label"),
    [
        (None, None),
        ("  \n", None),
        ("- **Lead with:** 20 % off for three months.\n- **Fall back to:** a pause", "discount 20 %"),
        ("Offer a 22% discount on the annual plan.", "discount 20 %"),
        ("A discount, size open.", "discount"),
        ("No discount. Give two free months.", "free months"),
        ("Rather than a discount, a pause of two months", "pause"),
        ("Move them to the yearly plan", "yearly plan"),
        ("Ask what they need.", "other"),
        ("Nothing to discount: a 14-day look at the paid feature", "trial"),
    ],
)
def test_an_offer_goes_by_the_name_of_what_is_offered_first(section: str | None, label: str | None) -> None:
    assert offer_label(section) == label


def test_the_offers_of_the_simulated_research_have_names() -> None:
    assert {plan: offer_label(f"- **Lead with:** {move.lead}.") for plan, move in PLANS.items()} == {
        "pro": "discount 20 %",
        "business": "smaller plan",
        "enterprise": "review",
        "starter": "free months",
        "free": "trial",
    }


@settings(max_examples=30)
@given(st.lists(st.sampled_from([*"a .%0123456789\n", "discount", "pause", "no ", "% off", "credit"]), max_size=40))
def test_whatever_the_section_holds_its_name_is_one_of_a_short_list(parts: list[str]) -> None:
    label = offer_label("".join(parts))
    assert label in {None, *LABELS, *(f"discount {size} %" for size in range(5, 101, 5))}


def test_days_are_those_of_utc() -> None:
    assert day_of(day_number(datetime.fromisoformat("2026-11-24T23:30:00-02:00"))).isoformat() == "2026-11-25"


def test_a_change_of_outcome_moves_a_brief_from_one_group_to_another() -> None:
    before, after = brief(), brief(outcome=Outcome.SAVED, first_contact_at=NOON + timedelta(minutes=30))

    change = difference(before, after)

    assert [(group.outcome, sums.briefs, sums.mrr, sums.credits) for group, sums in change.items()] == [
        ("", -1, -850.0, -40),
        ("saved", 1, 850.0, 40),
    ]
    [gained] = [sums for group, sums in change.items() if group.outcome]
    assert (gained.contacts, gained.contact_seconds, gained.within_hour, gained.within_week) == (1, 1800, 1, 1)
    assert difference(after, after) == {}


def test_a_contact_before_the_signal_waited_no_time_at_all() -> None:
    assert brief(first_contact_at=NOON - timedelta(days=1)).sums.contact_seconds == 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([None, *Outcome]), st.floats(0, 1e6)), max_size=20))
def test_whatever_was_said_in_between_the_sums_are_those_of_what_was_said_last(
    said: list[tuple[Outcome | None, float]],
) -> None:
    sums: dict[object, Sums] = {}
    before: Counted | None = None
    for outcome, mrr in said:
        after = brief(outcome=outcome, mrr=mrr)
        for group, more in difference(before, after).items():
            sums[group] = sums.get(group, Sums()) + more
        before = after
    assert {group: each for group, each in sums.items() if each != Sums()} == difference(None, before)


def test_figures_tell_the_share_of_the_saved_among_those_whose_end_is_known() -> None:
    one = Sums(briefs=1, mrr_hundredths=100)
    counts = gather(
        [
            ("A", "USD", Outcome.SAVED, one),
            ("A", "USD", Outcome.LOST, one + one + one),
            ("A", "USD", None, one),
            ("B", "EUR", Outcome.CONTACTED, Sums(briefs=1, mrr_hundredths=1, contacts=1, contact_seconds=7200)),
        ]
    )
    assert [(c.value, c.currency, c.total.briefs, c.saved_share, c.mean_hours_to_contact) for c in counts] == [
        ("A", "USD", 5, 0.25, None),
        ("B", "EUR", 1, None, 2.0),
    ]
    assert [(c.currency, c.total.briefs) for c in all_in_all(counts)] == [("USD", 5), ("EUR", 1)]


class Hears:
    """Stands for a connection; hears in which order groups are added to."""

    dialect = sqlite.dialect()

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    async def execute(self, statement: Any) -> None:
        self.outcomes.append(statement.compile(dialect=self.dialect).params["outcome"])


async def test_sums_are_added_to_in_one_order_so_that_two_who_do_rarely_wait_in_a_circle() -> None:
    saved, none = (Group(1, "persona", "bounced", "", "USD", outcome) for outcome in ("saved", ""))
    there, back = Hears(), Hears()
    await add(cast("AsyncConnection", there), {none: Sums(-1), saved: Sums(1)})
    await add(cast("AsyncConnection", back), {saved: Sums(-1), none: Sums(1)})
    assert there.outcomes == back.outcomes == ["", "saved"]
