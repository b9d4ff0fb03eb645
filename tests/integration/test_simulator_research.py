"""The simulated briefs read what they were told and advise on it."""

from __future__ import annotations

import itertools
import re

import pytest

from churn_radar.simulator.facts import DEFAULT_HEADINGS, read_facts, read_headings
from churn_radar.simulator.industries import GENERAL, industry_notes
from churn_radar.simulator.people import PEOPLE
from churn_radar.simulator.research import ask_back, write_brief

INDUSTRIES = sorted({person.attributes.get("industry", "N/A") for person in PEOPLE} | {"beekeeping"})


def told(
    event: str = "unsubscribed",
    plan: str = "pro",
    industry: str = "fintech",
    *,
    mrr: str = "$850",
    tenure: str = "342 days",
    persona: str = "High-MRR Fintech (Pro plan)",
) -> str:
    return (
        "A high-value customer just gave a churn signal.\n\n"
        f"EVENT: {event}\nPERSONA TYPE: {persona}\nMRR: {mrr}\nTENURE: {tenure}\n"
        f"LAST ACTIVE: 2026-11-17T23:00:00Z\nPLAN: {plan}\nINDUSTRY: {industry}\n"
    )


def section(content: str, number: int) -> str:
    return re.split(r"^## .*$", content, flags=re.MULTILINE)[number]


def test_every_brief_has_six_headings_three_mails_and_a_sensible_length() -> None:
    for event, plan, industry, seed in itertools.product(
        ("unsubscribed", "bounced", "complained", "paused", "N/A"),
        ("free", "starter", "pro", "business", "enterprise", "gold"),
        INDUSTRIES,
        (1, 2, 3),
    ):
        content = write_brief(told(event, plan, industry), seed=seed).content
        assert re.findall(r"^## (.*)$", content, re.MULTILINE) == list(DEFAULT_HEADINGS)
        assert re.findall(r"^### Email (\d): ", section(content, 3), re.MULTILINE) == ["1", "2", "3"]
        assert section(content, 3).count("**Subject:** ") == 3
        assert 350 <= len(content.split()) <= 700
        assert not re.search(r"[{}]|\bNone\b(?! within)|\.\.", content)


def test_a_brief_is_the_same_for_the_same_message_and_seed() -> None:
    assert write_brief(told(), seed=4) == write_brief(told(), seed=4)
    assert len({write_brief(told(), seed=seed).content for seed in range(12)}) > 8


def test_industry_event_and_plan_change_what_is_advised() -> None:
    by_industry = {section(write_brief(told(industry=name), seed=1).content, 2) for name in INDUSTRIES}
    by_event = {
        section(write_brief(told(event), seed=1).content, 5) for event in ("unsubscribed", "bounced", "complained")
    }
    by_plan = {section(write_brief(told(plan=plan), seed=1).content, 4) for plan in ("free", "pro", "enterprise")}
    assert len(by_industry) == len(INDUSTRIES)
    assert len(by_event) == len(by_plan) == 3


def test_after_a_complaint_no_automated_mail_is_advised_and_after_a_bounce_another_contact() -> None:
    assert "No automated mail" in section(write_brief(told("complained"), seed=1).content, 3)
    assert "second contact" in section(write_brief(told("bounced"), seed=1).content, 5)


def test_of_several_events_the_gravest_leads_and_the_others_are_named() -> None:
    summary = section(write_brief(told("bounced, unsubscribed, complained"), seed=1).content, 0)
    assert "reported one of your mails as spam" in summary
    assert "bounced and unsubscribed" in summary


@pytest.mark.parametrize(
    ("plan", "mrr", "expected"),
    [
        ("pro", "$850", "at most $510 against $10,200 a year"),
        ("business", "CHF 2400", "at most CHF 2,880 against CHF 28,800 a year"),
        ("enterprise", "€11800.00", "at most €23,600 against €141,600 a year"),
    ],
)
def test_the_cost_of_an_offer_is_reckoned_from_the_revenue(plan: str, mrr: str, expected: str) -> None:
    assert expected in section(write_brief(told(plan=plan, mrr=mrr), seed=1).content, 4)


@pytest.mark.parametrize("mrr", ["N/A", "$0", "", "lots"])
def test_without_a_revenue_no_cost_is_made_up(mrr: str) -> None:
    assert "What it costs" not in write_brief(told(mrr=mrr), seed=1).content


def test_what_was_not_given_is_named_as_an_assumption() -> None:
    summary = section(write_brief(told(industry="N/A", mrr="N/A", tenure="N/A"), seed=1).content, 0)
    assert "Not given: the industry, the revenue" in summary
    assert "Tenure is unknown" in write_brief(told(tenure="N/A"), seed=1).content


@pytest.mark.parametrize(("tenure", "reading"), [("41 days", "still arriving"), ("1280 days", "taken for granted")])
def test_tenure_changes_the_reason(tenure: str, reading: str) -> None:
    assert reading in section(write_brief(told(tenure=tenure), seed=1).content, 1)


def test_usage_named_by_the_persona_is_read() -> None:
    brief = write_brief(told(persona="Enterprise Logistics (high usage)"), seed=1)
    assert "Usage is high" in section(brief.content, 0)


def test_the_headings_are_those_that_the_message_asks_for() -> None:
    wanted = ["One", "Two", "Three", "Four", "Five", "Six"]
    hashes = "\n".join(f"## {title}" for title in wanted)
    numbered = "\n".join(f"{place}. **{title}**: say more" for place, title in enumerate(wanted, 1))
    for asked in (hashes, numbered):
        content = write_brief(told() + "\n" + asked, seed=1).content
        assert re.findall(r"^## (.*)$", content, re.MULTILINE) == wanted
    assert read_headings("1. Why do they leave?\n2. What works?") == DEFAULT_HEADINGS


def test_citations_point_at_sources_that_are_there() -> None:
    for seed in range(30):
        brief = write_brief(told(), seed=seed)
        assert 2 <= len(brief.sources) <= 6
        cited = {int(number) for number in re.findall(r"\[(\d+)\]", brief.content)}
        assert cited <= set(range(1, len(brief.sources) + 1))
        for source in brief.sources:
            assert str(source["domain"]).endswith(".example")
            assert str(source["url"]).startswith(f"https://{source['domain']}/")


def test_validation_figures_come_in_both_documented_scales_and_sometimes_with_doubts() -> None:
    found = [write_brief(told(), seed=seed).validation for seed in range(60)]
    scores = [float(str(each["confidence_score"])) for each in found]
    assert any(score <= 1 for score in scores)
    assert any(1 < score <= 10 for score in scores)
    assert {bool(each["unsupported_claims"]) for each in found} == {True, False}
    assert {each["hallucination_risk"] for each in found} == {"low", "medium", "high"}


def test_a_question_back_ends_as_one_and_has_no_heading() -> None:
    for seed in range(10):
        content = ask_back(told(), seed=seed).content
        assert content.strip("*").endswith("?")
        assert "#" not in content


@pytest.mark.parametrize(("spelled", "known"), [("E-Commerce", True), ("real estate", True), ("beekeeping", False)])
def test_an_industry_is_known_however_it_is_spelled(spelled: str, known: bool) -> None:
    assert (industry_notes(spelled) is not GENERAL) == known


@pytest.mark.parametrize(
    "message", ["", "hello", "EVENT:\nMRR: $$$\nTENURE: days\nPLAN: \n", "MRR: " + "9" * 5000, "#" * 9000]
)
def test_any_message_gets_a_brief(message: str) -> None:
    assert write_brief(message, seed=1).content.count("\n## ") == 6


def test_facts_are_read_from_lines_wherever_they_stand() -> None:
    facts = read_facts(told("Bounced, unsubscribed", mrr="CHF 1,450.50"))
    assert facts.events == ("bounced", "unsubscribed")
    assert (facts.currency, str(facts.mrr), facts.tenure_days) == ("CHF ", "1450.50", 342)
    assert (facts.plan, facts.industry) == ("pro", "fintech")
