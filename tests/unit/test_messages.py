from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from churn_radar.research.brief import BriefSections
from churn_radar.sinks import render
from churn_radar.sinks.gist import first_line, gist, shorten
from churn_radar.sinks.message import Link, Message, of_brief
from churn_radar.triage.consent import consent
from tests.support.briefs import a_brief

LINK = Link("Open the brief", "https://radar.example/b/1?a=1&b=2")
RENDERERS = [render.as_text, render.as_markdown, render.as_html]


@pytest.mark.parametrize(
    ("markdown", "line"),
    [
        ("1. **They were mailed.** Opting out is a verdict. [1]", "They were mailed. Opting out is a verdict."),
        ("- **Lead with:** 20 % off", "Lead with: 20 % off"),
        ("**Lead with:**\n\n- 20 % off for three months", "Lead with: 20 % off for three months"),
        ("### Offer\n\nA call [from a person](https://a.example/x) first.", "A call from a person first."),
        ("See https://a.example/x now, it tells of reasons.", "See now, it tells of reasons."),
        ("```\ncode\n```\n\nWords come after the code block.", "Words come after the code block."),
        ("| a | b |\n| - | - |", "| a | b | | - | - |"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("   ", None),
        ("#", None),
    ],
)
def test_the_first_thing_a_section_says_is_plain_text(markdown: str, line: str | None) -> None:
    assert first_line(markdown) == line


def test_the_gist_is_why_offer_and_when() -> None:
    sections = BriefSections(
        churn_reasons="They left.", offer="A discount.", timing="On day three.", retention_tactics="x"
    )

    assert gist(a_brief(sections=sections)) == [
        ("Why", "They left."),
        ("Offer", "A discount."),
        ("When", "On day three."),
    ]


def test_what_is_missing_is_made_up_for_by_other_sections() -> None:
    sections = BriefSections(timing="On day three.", retention_tactics="Call them.", reengagement_signals="Log-ins.")

    assert [word for word, _ in gist(a_brief(sections=sections))] == ["When", "Try", "Watch"]


def test_a_brief_without_sections_still_says_something() -> None:
    assert gist(a_brief(sections=BriefSections(), research_brief="It is about price.")) == [
        ("In short", "It is about price.")
    ]


@pytest.mark.parametrize(
    ("limit", "text"), [(40, "one two three"), (12, "one two…"), (8, "one two…"), (5, "one…"), (1, "")]
)
def test_what_is_too_long_is_cut_between_words(limit: int, text: str) -> None:
    assert shorten("one two three", limit) == text
    assert len(shorten("one two three", limit)) <= limit


def test_a_brief_tells_its_facts_and_what_may_be_sent() -> None:
    message = of_brief(a_brief(consent=consent([("complained", "email")])), [LINK])

    assert message.title == "Churn alert: unsubscribed, High-MRR Fintech (Pro plan)"
    assert dict(message.facts) == {
        "Customer": "jane@acme.co",
        "MRR": "$850 a month",
        "Plan": "pro",
        "Tenure": "342 days",
        "Signal": "2026-11-24 12:00 UTC",
    }
    assert message.caution is not None
    assert message.caution.startswith("Send no mail at all")
    assert message.links == (LINK,)


@pytest.mark.parametrize("as_family", RENDERERS)
def test_every_family_shows_facts_lines_caution_and_link(as_family: Any) -> None:
    shown = as_family(of_brief(a_brief(consent=consent([("complained", "email")])), [LINK]), 4000)

    for part in (
        "jane@acme.co",
        "$850 a month",
        "They do",
        "Send no mail at all",
        "Open the brief",
        "radar.example/b/1",
    ):
        assert part in shown


HOSTILE = "@channel <!here> @everyone [click](https://evil.example) <b>x</b> *bold* www.evil.example \u202egnp.exe\n# x"


@pytest.mark.parametrize("as_family", RENDERERS)
def test_nothing_from_outside_calls_anybody_or_links_anywhere(as_family: Any) -> None:
    brief = a_brief(
        persona_type=HOSTILE,
        plan=HOSTILE,
        email=HOSTILE,
        research_brief=HOSTILE,
        sections=BriefSections(churn_reasons=HOSTILE, offer=HOSTILE),
    )
    message = of_brief(brief)

    for shown in (as_family(message, 4000), render.title(message)):
        assert not re.search(r"@(channel|here|everyone)", shown)
        assert "://" not in shown
        assert "www.e" not in shown
        assert "\u202e" not in shown


def test_markdown_from_outside_stays_text() -> None:
    shown = render.as_markdown(of_brief(a_brief(plan=HOSTILE)), 4000)

    html = MarkdownIt("commonmark", {"linkify": True}).render(shown)
    assert "<a " not in html
    assert "<em>" not in html
    assert "<b>" not in html


def test_html_from_outside_stays_text() -> None:
    shown = render.as_html(of_brief(a_brief(plan="<img src=x onerror=1>", persona_type="<script>")), 4000)

    assert "<img" not in shown
    assert "<script" not in shown


def test_a_mail_address_stays_one() -> None:
    assert render.inert("jane.doe+x@acme.co") == "jane.doe+x@acme.co"


@pytest.mark.parametrize("as_family", RENDERERS)
@pytest.mark.parametrize("limit", [60, 200, 400, 700])
def test_whatever_the_limit_the_message_keeps_to_it(as_family: Any, limit: int) -> None:
    sections = BriefSections(churn_reasons="word " * 300, offer="word " * 300, timing="word " * 300)

    assert len(as_family(of_brief(a_brief(sections=sections), [LINK]), limit)) <= limit


@pytest.mark.parametrize("as_family", RENDERERS)
def test_lines_are_shortened_before_the_link_is_lost(as_family: Any) -> None:
    sections = BriefSections(churn_reasons="word " * 300, offer="word " * 300, timing="word " * 300)

    assert LINK.url.partition("&")[0] in as_family(of_brief(a_brief(sections=sections), [LINK]), 1000)


@given(st.text(max_size=300))
def test_any_text_gives_a_message_in_every_family(text: str) -> None:
    message = Message("id", text, (("Customer", text),), (("Why", text),), text or None)
    for as_family in RENDERERS:
        assert len(as_family(message, 500)) <= 500
    first_line(text)


@pytest.mark.parametrize("as_family", RENDERERS)
def test_further_links_are_left_out_before_the_lines_and_the_first_link_are(as_family: Any) -> None:
    links = [LINK, *(Link(f"Mark as {n}", f"https://radar.example/{'t' * 200}{n}") for n in range(4))]
    sections = BriefSections(churn_reasons="word " * 300, offer="word " * 300, timing="word " * 300)

    small = as_family(of_brief(a_brief(sections=sections), links), 1100)
    large = as_family(of_brief(a_brief(sections=sections), links), 4000)

    assert "example/b/1" in small
    assert "word word" in small
    assert "Mark as 0" not in small
    assert "Mark as 3" in large
