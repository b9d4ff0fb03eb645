from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.research.answer import (
    clean_sources,
    confidence,
    is_clarifying_question,
    risk,
    unsupported_claims,
)
from tests.unit.test_account import JSON

BRIEF = "## Why they churn\n\nPrice.\n\n## Offer structure\n\nA discount. Shall I go on?"


@pytest.mark.parametrize(
    "content",
    [
        "Which region are these customers in?",
        "Happy to help!\n\nBefore I start: **what is your budget?**\n",
        "## One question\n\n- Which product?\n- Which segment? _(optional)_\n- *Which “tier?”*",
        "どの地域ですか？",
        "(Which region?)",
    ],
)
def test_an_answer_that_ends_in_a_question_and_has_no_section_asks_back(content: str) -> None:
    assert is_clarifying_question(content)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "   ",
        "Here is your brief.",
        "Why do they churn? Price.",
        BRIEF,
        "Price. " * 1000 + "Shall I go on?",
        "No, thanks! (why?) ok",
    ],
)
def test_anything_else_is_a_brief(content: str) -> None:
    assert not is_clarifying_question(content)


def test_a_source_keeps_what_can_be_shown() -> None:
    raw = [
        {
            "url": " https://www.Example.com/a?b=c#d ",
            "domain": "bank.com",
            "title": "How\nto\x1b[31m keep them",
            "snippet": "x" * 5000,
            "type": "web",
            "relevance": 0.9,
            "secret": "dropped",
        }
    ]
    assert clean_sources(raw) == [
        {
            "url": "https://www.Example.com/a?b=c#d",
            "domain": "example.com",
            "title": "How to keep them",
            "snippet": "x" * 1000,
            "type": "web",
            "relevance": 0.9,
        }
    ]


def test_a_plain_address_is_a_source() -> None:
    assert clean_sources(["http://hbr.org:8080/x"]) == [{"url": "http://hbr.org:8080/x", "domain": "hbr.org"}]


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("HTTPS://HBR.ORG", "hbr.org"),
        ("https://hbr.org.", "hbr.org"),
        ("https://münchen.de/ä", "münchen.de"),
        ("https://xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("http://127.0.0.1/x", "127.0.0.1"),
        ("http://[2001:db8::1]:80/x", "2001:db8::1"),
        ("https://x.io/a@b", "x.io"),
    ],
)
def test_the_domain_is_the_addresss_own_host(url: str, domain: str) -> None:
    assert [source["domain"] for source in clean_sources([{"url": url, "domain": "lie.com"}])] == [domain]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hbr.org",
        "//hbr.org",
        "ftp://hbr.org",
        "javascript:alert(1)",
        "JaVaScRiPt://hbr.org/%0aalert(1)",
        "data:text/html,x",
        "java\nscript:alert(1)",
        "https:/hbr.org",
        "https://",
        "https://:80",
        "https:///x",
        "https://user@hbr.org",
        "https://bank.com@evil.io/",
        "https://user:pw@hbr.org",
        "https://@hbr.org",
        "https://hbr.org\\@evil.io",
        "https://hbr.org/a b",
        "https://hbr.org/\x00",
        "https://hbr.org/\u202egro.rbh",
        "https://hbr\u200b.org",
        "https://hbr.org/\ud800",
        'https://hbr.org/"onclick=',
        "https://hbr.org/<script>",
        "https://hbr.org:99999",
        "https://hbr.org:port",
        "https://[::1",
        "https://[zz]/",
        "https://hb%72.org",
        "https://hbr..org",
        "https://hbr.org/" + "x" * 2000,
        None,
        42,
        ["https://hbr.org"],
    ],
)
def test_an_address_that_could_mislead_is_dropped(url: object) -> None:
    assert clean_sources([{"url": url, "title": "t"}, url]) == []


@pytest.mark.parametrize(
    "raw", [None, "https://hbr.org", {"url": "https://hbr.org"}, 42, [None, 1, [], {}, {"title": "x"}]]
)
def test_what_is_no_list_of_sources_gives_none(raw: object) -> None:
    assert clean_sources(raw) == []


@pytest.mark.parametrize("relevance", [float("nan"), float("inf"), True, [], {}, None, ""])
def test_a_relevance_that_says_nothing_is_left_out(relevance: object) -> None:
    assert clean_sources([{"url": "https://x.io", "relevance": relevance}]) == [
        {"url": "https://x.io", "domain": "x.io"}
    ]


def test_at_most_a_hundred_sources_are_kept_in_order() -> None:
    raw = ["nonsense", *(f"https://x.io/{n}" for n in range(500))]
    assert [source["url"] for source in clean_sources(raw)] == [f"https://x.io/{n}" for n in range(100)]


@given(JSON | st.lists(st.dictionaries(st.sampled_from(["url", "title", "snippet", "type", "relevance"]), JSON)))
def test_any_sources_come_out_as_web_addresses(raw: object) -> None:
    for source in clean_sources(raw):
        assert str(source["url"]).startswith(("http://", "https://"))
        assert source["domain"]


@given(st.from_regex(r"https?:/{0,3}[a-z@:\\\[\]./%?#\t\n\x00 ]{0,20}", fullmatch=True))
def test_a_kept_address_has_no_user_and_no_odd_character(url: str) -> None:
    for source in clean_sources([url]):
        kept = str(source["url"])
        assert "@" not in kept.split("/")[2]
        assert not set(kept) & set("\\ \t\n\x00")


@pytest.mark.parametrize(
    ("value", "share"), [(0, 0.0), (0.87, 0.87), (1, 1.0), (1.0, 1.0), (8.7, 0.87), (7, 0.7), (10, 1.0), (1.5, 0.15)]
)
def test_confidence_is_a_share_whatever_its_scale(value: object, share: float) -> None:
    assert confidence(value) == share


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "0.9",
        "high",
        -0.1,
        10.1,
        87,
        float("nan"),
        float("inf"),
        [],
        {},
        pytest.param(10**5000, id="huge"),
    ],
)
def test_confidence_on_no_known_scale_is_unknown(value: object) -> None:
    assert confidence(value) is None


@pytest.mark.parametrize(("value", "level"), [("low", "low"), ("MEDIUM", "medium"), (" High ", "high")])
def test_risk_is_one_of_three_levels(value: object, level: str) -> None:
    assert risk(value) == level


@pytest.mark.parametrize("value", [None, "", "severe", 1, True, [], {"level": "low"}])
def test_risk_of_another_level_is_unknown(value: object) -> None:
    assert risk(value) is None


def test_unsupported_claims_are_read_from_texts_and_maps() -> None:
    raw = [
        "They\nleave\x1b[2J.",
        {"claim": "40 % return"},
        {"text": "b", "score": 1},
        {"score": 1},
        {"claim": 2, "text": "c"},
        5,
        None,
        "",
        ["x"],
    ]
    assert unsupported_claims(raw) == ["They leave.", "40 % return", "b", "c"]


def test_unsupported_claims_are_bounded() -> None:
    assert unsupported_claims(["x" * 10_000] * 5_000) == ["x" * 500] * 50


@pytest.mark.parametrize("value", [None, "a claim", 3, {"claim": "x"}])
def test_what_is_no_list_of_claims_gives_none(value: object) -> None:
    assert unsupported_claims(value) == []


@given(JSON)
def test_any_value_is_read_without_complaint(value: object) -> None:
    share = confidence(value)
    assert share is None or 0 <= share <= 1
    assert risk(value) in (None, "low", "medium", "high")
    assert all(0 < len(claim) <= 500 for claim in unsupported_claims(value))


@given(st.text())
def test_any_text_is_a_question_or_is_not(content: str) -> None:
    assert is_clarifying_question(content) in (True, False)
