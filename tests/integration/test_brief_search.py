"""Looking for briefs: every filter, every order, page by page, is what a walk through all of them would give."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.store import brief_search
from churn_radar.store.at_risk import take_off
from churn_radar.store.brief_names import _after, names_of
from churn_radar.store.brief_search import BriefLine, Place, Wanted, search_briefs
from churn_radar.store.record import Record
from tests.support.door import house
from tests.support.kept_briefs import keep_briefs
from tests.support.work import NOON

DAY = timedelta(days=1)
PERSONAS = ("High-MRR Fintech (Pro plan)", "Enterprise Media (high usage)", "Pro 100% User")
KINDS = ("unsubscribed", "bounced", "complained")
PLANS = ("pro", "enterprise")


def some_briefs(count: int) -> list[dict[str, Any]]:
    dice = random.Random(5)
    return [
        {
            "customer": f"cust_{n % 30}",
            "email": f"jo{n % 30}@host{n % 7}.example",
            "persona_type": dice.choice(PERSONAS),
            "event_type": dice.choice(KINDS),
            "plan": dice.choice(PLANS),
            "mrr": dice.choice((0.0, 49.5, 850.0, 850.0, 12_000.0)),
            "created_at": NOON - dice.randrange(10) * DAY,
            **dice.choice(({}, {}, {"outcome": "contacted", "owner": "Ines"}, {"owner": "Jo"})),
        }
        for n in range(count)
    ]


async def all_pages(record: Record, wanted: Wanted, limit: int = 7) -> list[BriefLine]:
    lines: list[BriefLine] = []
    after: Place | None = None
    while True:
        async with record.read() as connection:
            found = await search_briefs(connection, wanted, after=after, limit=limit)
        assert len(found.lines) <= limit
        lines += found.lines
        if found.further is None:
            return lines
        after = found.further


FILTERS: dict[str, tuple[Wanted, Any]] = {
    "all": (Wanted(), lambda b: True),
    "part of a persona, in any case": (Wanted(persona="fINtech"), lambda b: "Fintech" in b["persona_type"]),
    "a persona with a wildcard in it": (Wanted(persona="100%"), lambda b: "100%" in b["persona_type"]),
    "plan": (Wanted(plan="Enterprise"), lambda b: b["plan"] == "enterprise"),
    "kind": (Wanted(kind="bounced"), lambda b: b["event_type"] == "bounced"),
    "MRR from": (Wanted(mrr_from=850), lambda b: b["mrr"] >= 850),
    "MRR to": (Wanted(mrr_to=850), lambda b: b["mrr"] <= 850),
    "a range of MRR of one plan": (
        Wanted(mrr_from=1, mrr_to=900, plan="pro"),
        lambda b: 1 <= b["mrr"] <= 900 and b["plan"] == "pro",
    ),
    "since": (Wanted(since=NOON - 3 * DAY), lambda b: b["created_at"] >= NOON - 3 * DAY),
    "before": (Wanted(before=NOON - 3 * DAY), lambda b: b["created_at"] < NOON - 3 * DAY),
    "an outcome": (Wanted(outcome="contacted"), lambda b: b.get("outcome") == "contacted"),
    "no outcome yet": (Wanted(outcome="none", plan="pro"), lambda b: "outcome" not in b and b["plan"] == "pro"),
    "an owner, in any case": (Wanted(owner="INES"), lambda b: b.get("owner") == "Ines"),
    "nothing fits": (Wanted(persona="nobody"), lambda b: False),
    "the beginning of a customer's id": (Wanted(customer="CUST_1"), lambda b: b["customer"].startswith("cust_1")),
    "the beginning of a mail address": (Wanted(customer=" jo12@"), lambda b: b["email"].startswith("jo12@")),
    "the host of a mail address": (Wanted(customer="host3"), lambda b: "@host3." in b["email"]),
    "a customer's briefs of one kind": (
        Wanted(customer="jo4@host4.example", kind="complained"),
        lambda b: b["customer"] == "cust_4" and b["event_type"] == "complained",
    ),
    "no such customer": (Wanted(customer="nobody"), lambda b: False),
    "a name that no database holds": (Wanted(customer="a\0b"), lambda b: False),
    "an owner that no database holds": (Wanted(owner="Ines\0"), lambda b: False),
    "a persona that no database holds": (Wanted(persona="a\0b"), lambda b: False),
}


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("looked_at", [100_000, 10], ids=["all at once", "some at a time"])
async def test_every_filter_finds_what_a_walk_through_all_briefs_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr(brief_search, "MOST_LOOKED_AT", looked_at)
    kept = some_briefs(80)
    async with house(tmp_path) as home:
        seqs = await keep_briefs(home.record, *kept)
        for name, (wanted, fits) in FILTERS.items():
            told = [(brief["mrr"], seq) for brief, seq in zip(kept, seqs, strict=True) if fits(brief)]
            found = await all_pages(home.record, wanted)
            assert [(line.mrr, line.seq) for line in found] == sorted(told, reverse=True), name
        # What is at risk is each customer's newest, but for those that an outcome closed.
        await home.record.write(partial(take_off, brief_seqs=seqs[-5:]))
        at_risk = await all_pages(home.record, Wanted(at_risk=True))
        assert {line.seq for line in at_risk} == set(seqs[-30:-5])
        assert all(line.is_at_risk for line in at_risk)


async def test_a_search_that_looks_at_enough_for_one_page_says_where_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brief_search, "MOST_LOOKED_AT", 10)
    async with house(tmp_path) as home:
        told = [{"customer": f"c{n}", "mrr": float(n), "plan": "pro" if n else "business"} for n in range(25)]
        await keep_briefs(home.record, *told)
        wanted, place, cuts = Wanted(plan="business"), None, []
        for _ in range(3):
            async with home.record.read() as connection:
                found = await search_briefs(connection, wanted, after=place, limit=50)
            cuts.append((len(found.lines), found.is_cut))
            place = found.further
        assert cuts == [(0, True), (0, True), (1, False)]


@pytest.mark.usefixtures("everywhere")
async def test_a_line_tells_who_it_is_about_and_what_may_be_sent(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        [seq] = await keep_briefs(home.record, {"customer": "cust_9", "email": "jo@x.io", "event_type": "complained"})
        [line] = await all_pages(home.record, Wanted())
    assert (line.seq, line.customer_id, line.email, line.kind) == (seq, "cust_9", "jo@x.io", "complained")
    assert (line.mrr, line.currency, line.created_at, line.signals) == (850.0, "USD", NOON, 1)
    assert line.consent.may_mail == "nothing"


def test_names_are_the_ids_the_address_and_its_host_in_lower_case() -> None:
    assert names_of(customer_id="CUST", cio_id=None, email="Jo@X.io") == {"cust", "jo@x.io", "x.io"}
    assert names_of(customer_id="é" * 900, cio_id="A", email=None) == {"é" * 200, "a"}


@given(st.text(min_size=1, max_size=5), st.text(max_size=5))
def test_what_begins_like_a_text_lies_before_its_end(start: str, rest: str) -> None:
    end = _after(start)
    assert end is None or start <= start + rest < end
    assert end is None or not end.startswith(start)


def test_the_end_of_a_range_is_text_that_every_database_takes() -> None:
    assert _after("a\U0010ffff") == "b"
    assert _after("\U0010ffff") is None
    assert _after("\ud7ff") == "\ue000"


def test_nothing_wanted_asks_nothing() -> None:
    assert brief_search._conditions(Wanted()) == []
    assert len(brief_search._conditions(replace(Wanted(), plan="pro", at_risk=True))) == 2
