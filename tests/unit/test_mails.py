"""Win-back mails told apart, however the brief shows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.research.mails import Mail, Mails, split_mails

HEADINGS = "Mind this.\n\n{0} Email 1: A question\n\n**Subject:** Hello\n\nFirst.\n\n{0} Email 2\n\nSecond.\n"


@pytest.mark.parametrize("mark", ["##", "###", "####"])
def test_mails_under_headings_are_told_apart_with_their_subjects(mark: str) -> None:
    assert split_mails(HEADINGS.format(mark)) == Mails(
        "Mind this.", (Mail("Email 1: A question", "Hello", "First."), Mail("Email 2", None, "Second."))
    )


@pytest.mark.parametrize(
    "text",
    [
        "**Email 1: A**\nSubject: One\n\nText.\n\n**Email 2: B**\n\nSubject: Two\n\nText.",
        "1. **First email** - *Subject: One*\n\n   Text.\n2. **Second email**\n\n   Subject line: Two\n\n   Text.",
        "### Mail #1 (day 0)\n- Subject: One\n\nText.\n\n### Mail #2\n- __Subject__: Two\n\nText.",
        "#### Win-back email 1\n\n> **Subject:** One\n\nText.\n#### Win-back email 2\n\n> **Subject:** Two\n\nText.",
        "## E-mail one: Subject: One\n\nText.\n\n## E-mail two: Subject: Two\n\nText.",
    ],
)
def test_mails_are_found_however_they_are_marked(text: str) -> None:
    found = split_mails(text)
    assert [mail.subject for mail in found.mails] == ["One", "Two"]
    assert all("Text." in mail.body and "ubject" not in mail.body for mail in found.mails)


def test_three_bold_items_of_one_list_are_three_mails() -> None:
    found = split_mails("Send:\n\n1. **The hello**: Text.\n2. **The proof**: Text.\n3. **The offer**: Text.")
    assert [mail.title for mail in found.mails] == ["The hello", "The proof", "The offer"]
    assert found.introduction == "Send:"


@pytest.mark.parametrize(
    "text",
    ["", "Just words.", "## Email 1\n\nOnly one.", "1. **A**: x\n2. **B**: y", "```\n## Email 1\n## Email 2\n```"],
)
def test_what_cannot_be_told_apart_stays_one_text(text: str) -> None:
    assert split_mails(text) == Mails(text)


@given(st.text(alphabet="#*_1. \nEmail:subjct`>-", max_size=300))
def test_any_text_gives_an_answer(text: str) -> None:
    found = split_mails(text)
    assert found.mails or found.introduction == text
