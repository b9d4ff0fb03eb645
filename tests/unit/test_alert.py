from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.sinks.alert import alert_block

VALUES: dict[str, Any] = {
    "event": "unsubscribed",
    "email": "jane@acme.co",
    "persona": "High-MRR Fintech (Pro plan)",
    "mrr": "$850",
    "tenure": "342d",
    "plan": "pro",
    "brief": "## Why they churn\n\nPrice.",
    "source_count": 3,
}


def block(**changes: Any) -> str:
    return alert_block(**{**VALUES, **changes})


def test_the_alert_is_printed_exactly_so() -> None:
    assert block() == (
        "============================================================\n"
        "CHURN ALERT: unsubscribed | jane@acme.co | High-MRR Fintech (Pro plan)\n"
        "MRR: $850 | Tenure: 342d | Plan: pro\n"
        "============================================================\n"
        "## Why they churn\n"
        "\n"
        "Price.\n"
        "Sources: 3"
    )


def test_the_brief_is_cut_to_its_first_two_thousand_characters() -> None:
    brief = "".join(chr(0x4E00 + n) for n in range(3000))
    assert block(brief=brief).split("\n")[4] == brief[:2000]
    assert block(brief="x" * 2000).split("\n")[4] == "x" * 2000


@pytest.mark.parametrize(("characters", "shown"), [(0, ""), (1, "#"), (10_000_000, VALUES["brief"])])
def test_how_much_of_the_brief_is_shown_is_a_choice(characters: int, shown: str) -> None:
    assert block(brief_characters=characters).split("\n", 4)[4] == f"{shown}\nSources: 3"


def test_the_brief_keeps_its_lines_and_tabs() -> None:
    assert "a\n\tb\nc\n- 日本語 👩\u200d💻" in block(brief="a\r\n\tb\rc\n- 日本語 👩\u200d💻")


def test_blank_values_are_not_available() -> None:
    lines = block(email="", tenure="N/A", plan=" ").split("\n")
    assert lines[1] == "CHURN ALERT: unsubscribed | N/A | High-MRR Fintech (Pro plan)"
    assert lines[2] == "MRR: $850 | Tenure: N/A | Plan: N/A"


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b[2J",
        "\x1b]0;owned\x07",
        "\x9b31m",
        "\x1b[1;1H",
        "\x1bc",
        "\b\b\b",
        "\x1bP+q\x1b\\",
        "\u202e",
        "\x07",
        "\x1b]8;;http://x\x1b\\",
    ],
)
@pytest.mark.parametrize("where", ["event", "email", "persona", "mrr", "tenure", "plan", "brief"])
def test_nothing_steers_the_terminal(where: str, attack: str) -> None:
    assert block(**{where: f"{attack}seen"}) == block(**{where: "seen"})


def test_a_value_cannot_forge_a_line() -> None:
    forged = block(persona="x\nMRR: $9 | Tenure: 1d | Plan: y\r\u2028z")
    assert len(forged.splitlines()) == len(block().splitlines())


@given(st.text(), st.text(), st.integers(0, 50))
def test_any_text_prints_safely(persona: str, brief: str, characters: int) -> None:
    text = block(persona=persona, brief=brief, brief_characters=characters)
    text.encode()
    assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in text)
    assert text.startswith("=" * 60 + "\nCHURN ALERT: unsubscribed | ")
    assert text.endswith("\nSources: 3")
