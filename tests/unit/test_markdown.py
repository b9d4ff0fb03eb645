"""Markdown from outside: as HTML it holds nothing that acts, as text it holds no marks."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.web.markdown import SHOWN_CHARACTERS, as_html, as_text, parts_of
from tests.support.pages import tags

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "[x](/desk/logout)",
    "[x](//evil.example/)",
    "[x](\\\\evil.example)",
    '[x](https://a.example "t\\" onclick=alert(1)")',
    "![x](https://a.example/pixel.png)",
    "<javascript:alert(1)>",
    '<a href="https://a.example" style="position:fixed" onclick="x">y</a>',
    "```html\n<script>alert(1)</script>\n```",
    "<style>*{display:none}</style>",
    '<p class="button" id="main">x</p>',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "[x]: javascript:alert(1)\n\n[x]",
)
ALLOWED = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "a"),
    *("table", "thead", "tbody", "tr", "th", "td", "sup"),
}


def harmless(html: str) -> None:
    for tag, attributes in tags(html):
        assert tag in ALLOWED
        assert attributes.keys() <= {"href", "rel", "title", "dir", "class", "start"}
        assert attributes.get("class", "unsupported") == "unsupported"
        if "href" in attributes:
            assert re.match(r"https?://|mailto:|#source-\d+$", attributes["href"] or "")
            assert attributes["rel"] == "noopener nofollow"


@pytest.mark.parametrize("markdown", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(markdown: str) -> None:
    harmless(as_html(markdown))


@given(st.text(alphabet="<>[]()\"'`*_#!:/ajvscript\n\\&;= ", max_size=200))
def test_whatever_the_text_only_harmless_elements_come_out(markdown: str) -> None:
    harmless(as_html(markdown))


def test_what_a_brief_is_made_of_is_shown() -> None:
    html = as_html("# Title\n\nA **bold** word, `code`, [site](https://a.example).\n\n1. one\n\n| a |\n|---|\n| b |\n")
    assert [tag for tag, _ in tags(html)] == ["h3", "p", "strong", "code", "a", "ol", "li", *("table", "thead", "tr"),
        *("th", "tbody", "tr", "td")]  # fmt: skip
    assert 'dir="auto"' in html


def test_numbers_of_sources_lead_to_them_if_there_are_as_many() -> None:
    html = as_html("So it is [1], or not [3]. [2](https://a.example) `[1]`", sources=2)
    assert html.count('href="#source-1"') == 1
    assert "#source-3" not in html
    assert "#source-" not in as_html("So it is [1].")


def test_a_paragraph_that_holds_an_unsupported_claim_is_marked() -> None:
    claims = ["Churn fell by 40 %."]
    assert 'class="unsupported"' in as_html("They say *churn* fell by 40 % there.\n\nOther.", claims=claims)
    assert as_html("- churn fell by 40 %\n- no\n", claims=claims).count('class="unsupported"') == 1
    assert "unsupported" not in as_html("Churn rose.", claims=[*claims, "no"])


def test_text_to_paste_has_no_marks_and_keeps_lists() -> None:
    text = as_text("# Hi\n\n**Bold** [link](https://a.example)\n\n3. one\n4. two\n   - deep\n\n```\ncode\n```\n")
    assert text == "Hi\n\nBold link\n\n3. one\n4. two\n  - deep\ncode"


def test_a_long_text_comes_in_parts_that_make_it_whole() -> None:
    long = "A line of a brief.\n" * 120_000
    parts = parts_of(long)
    assert "".join(parts) == long
    assert max(map(len, parts)) <= SHOWN_CHARACTERS
    assert all(part.endswith("\n") for part in parts)
    assert "".join(parts_of("x" * 50_000)) == "x" * 50_000


@pytest.mark.parametrize("mark", ["[", "*a_", "`", "> ", "[a](", "<", "- ", "|a", "![[", "**"])
def test_text_made_to_take_long_takes_bounded_time(mark: str) -> None:
    began = time.process_time()
    harmless(as_html(mark * (2_000_000 // len(mark))))
    assert time.process_time() - began < 5
