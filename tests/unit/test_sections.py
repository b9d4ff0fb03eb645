from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_radar.research.prompt import ASKS
from churn_radar.research.sections import PARSED_CHARACTERS, Sections, parse_sections

KEYS = [ask.key for ask in ASKS]
HEADINGS = [ask.heading for ask in ASKS]
NUMBERED = list(enumerate(HEADINGS, start=1))


def found(markdown: str) -> list[str | None]:
    return list(parse_sections(markdown).as_dict().values())


def written(form: Callable[[int, str], str], headings: list[str] = HEADINGS) -> str:
    return "\n\n".join(f"{form(n, h)}\n\nBody {n}." for n, h in enumerate(headings, start=1))


BODIES: list[str | None] = [f"Body {n}." for n in range(1, 7)]


def test_the_keys_are_those_that_were_asked_for_in_their_order() -> None:
    assert list(Sections().as_dict()) == KEYS


@pytest.mark.parametrize(
    "form",
    [
        lambda n, h: f"## {h}",
        lambda n, h: f"# {h}",
        lambda n, h: f"###### {h} ######",
        lambda n, h: f"## {n}. {h}",
        lambda n, h: f"## {n}) **{h}**",
        lambda n, h: f"## Section {n}: {h.upper()}",
        lambda n, h: f"## {h}: High-MRR Fintech",
        lambda n, h: f"## 🔎 *{h}*",
        lambda n, h: f"   ### {h}",
        lambda n, h: f"{h}\n======",
        lambda n, h: f"{h}\n---",
        lambda n, h: f"**{h}**",
        lambda n, h: f"**{n}. {h}**",
        lambda n, h: f"{n}) __{h}:__",
        lambda n, h: f"**{h}**:",
        lambda n, h: f"{n}. **{h}**",
    ],
)
def test_the_six_headings_are_found_however_they_are_marked(form: Callable[[int, str], str]) -> None:
    assert found(written(form)) == BODIES
    assert found(f"# Brief for High-MRR Fintech\n\nA summary.\n\n{written(form)}") == BODIES
    assert found(written(form).replace("\n", "\r\n")) == BODIES


@pytest.mark.parametrize("form", [lambda n, h: f"**{n}. {h}**", lambda n, h: f"{n}. **{h}**", lambda n, h: f"## {h}"])
def test_the_text_may_follow_its_heading_without_a_blank_line(form: Callable[[int, str], str]) -> None:
    assert found(written(form).replace("\n\nBody", "\nBody")) == BODIES


def test_an_items_indented_text_is_its_section() -> None:
    text = "\n".join(f"{n}. **{h}**\n\n   Body {n}.\n   - more\n" for n, h in NUMBERED)
    assert found(text) == [f"   Body {n}.\n   - more" for n in range(1, 7)]


@pytest.mark.parametrize(
    "headings",
    [
        [
            "Why This Persona Churns in Fintech",
            "Proven Retention Tactics",
            "Win-Back Email Sequence",
            "Recommended Offer",
            "Best Time to Reach Out",
            "Re-Engagement Signals to Watch For",
        ],
        [
            "Churn drivers",
            "Playbook: examples from similar companies",
            "Three emails to win them back",
            "Discount & incentive design",
            "Outreach cadence",
            "Early indicators to monitor",
        ],
        [
            "Reasons for cancelling",
            "How to retain them",
            "Winback e-mails",
            "Pricing incentives",
            "When to send the win-back emails",
            "Reengagement",
        ],
    ],
)
def test_other_words_for_the_same_things_are_understood(headings: list[str]) -> None:
    assert found(written(lambda n, h: f"### {h}", headings)) == BODIES
    reordered = found(written(lambda n, h: f"### {h}", headings[::-1]))
    assert reordered == BODIES[::-1]


def test_six_headings_in_another_language_are_taken_by_position() -> None:
    headings = ["Warum sie gehen", "Was hilft", "Win-back-Mails", "Angebot", "Zeitpunkt", "Anzeichen"]
    assert found(written(lambda n, h: f"## {h}", headings)) == BODIES
    assert found(written(lambda n, h: f"## {h}", [*headings, "Sources"])) == BODIES


def test_headings_numbered_one_to_six_are_taken_by_position_among_others() -> None:
    headings = ["Kurzfassung", "1. Gründe", "2. Mittel", "3. Post", "4. Rabatt", "5. Zeit", "6. Zeichen", "Quellen"]
    assert found(written(lambda n, h: f"## {h}", headings)) == [f"Body {n}." for n in range(2, 8)]


def test_a_heading_that_two_sections_could_claim_is_taken_by_position() -> None:
    headings = ["Why they churn", "Tactics", "Win-back emails", "Win-back offer", "Email timing", "Signals"]
    assert found(written(lambda n, h: f"## {h}", headings)) == BODIES


def test_position_is_no_guide_when_words_contradict_it() -> None:
    headings = ["Angebot", "Why they churn", "Win-back emails", "Mittel", "Zeit", "Zeichen"]
    assert found(written(lambda n, h: f"## {h}", headings)) == ["Body 2.", None, "Body 3.", None, None, None]


@pytest.mark.parametrize("count", [5, 7])
def test_five_or_seven_unknown_headings_are_not_guessed_at(count: int) -> None:
    assert parse_sections(written(lambda n, h: f"## {h}", list("abcdefg"[:count]))) == Sections()


def test_six_bold_labels_are_no_six_sections() -> None:
    assert parse_sections(written(lambda n, h: f"**{h}**", list("abcdef"))) == Sections()


def test_sub_headings_belong_to_their_section() -> None:
    email = "Intro.\n\n### Email 1\n\nHi.\n\n### Timing\n\n**Offer structure:**\n\nNow.\n\n#### Signals\n\nx"
    text = written(lambda n, h: f"## {h}").replace("Body 3.", email)
    assert found(text) == [*BODIES[:2], email, *BODIES[3:]]


def test_the_three_mails_belong_to_their_section_even_at_its_own_level() -> None:
    text = "## Win-back emails\n\n## Email 1\n\na\n\n## Email 2\n\nb\n\n## Offer structure\n\nc"
    assert found(text) == [None, None, "## Email 1\n\na\n\n## Email 2\n\nb", "c", None, None]


def test_what_is_none_of_the_six_belongs_to_no_section() -> None:
    text = f"Preface.\n\n## Summary\n\nShort.\n\n{written(lambda n, h: f'## {h}')}\n\n## Sources\n\n- https://x.io"
    assert found(text) == BODIES
    bold = f"**Summary**\n\nShort.\n\n{written(lambda n, h: f'**{n}. {h}**')}\n\n**Sources**\n\n- https://x.io"
    assert found(bold) == BODIES


@pytest.mark.parametrize("marker", ["##", "###"])
def test_of_two_headings_for_one_section_the_first_wins(marker: str) -> None:
    text = f"{marker} Timing\n\na\n\n{marker} Offer\n\nb\n\n{marker} Timing\n\nc\n\n{marker} Offer\n\nd"
    assert found(text) == [None, None, None, "b", "a", None]


def test_the_same_heading_again_right_away_is_no_part_of_its_section() -> None:
    assert found("## Timing\n\na\n\n## Timing\n\nb")[4] == "a"


def test_the_words_asked_for_win_over_earlier_synonyms() -> None:
    text = "## Churn and more churn\n\na\n\n## Why they churn\n\nb"
    assert found(text)[0] == "b"


def test_headings_of_mixed_levels_are_found_by_the_words_asked_for() -> None:
    text = "\n\n".join(f"{'#' * n} {h}\n\nBody {n}." for n, h in NUMBERED)
    assert found(text) == BODIES


def test_headings_in_code_quotes_lists_and_html_are_text() -> None:
    hidden = (
        "```\n## Retention tactics\nx\n```\n\n~~~md\n## Offer structure\ny\n~~~\n\n> ## Win-back emails\n> z\n\n"
        "- ## When to reach out\n\n<!--\n## Signals of re-engagement\n-->\n\n    ## Offer structure"
    )
    assert found(f"## Why they churn\n\n{hidden}") == [hidden, None, None, None, None, None]


def test_bold_bullets_and_later_bold_lines_of_an_item_are_text() -> None:
    bullets = "- **Offer structure**\n  x\n- **When to reach out**\n  y"
    assert found(f"## Why they churn\n\n{bullets}") == [bullets, None, None, None, None, None]
    item = "1. **Why they churn**\n\n   **Offer structure**\n\n   x"
    assert found(item) == ["   **Offer structure**\n\n   x", None, None, None, None, None]


def test_an_answer_inside_one_code_block_is_unwrapped() -> None:
    text = written(lambda n, h: f"## {h}")
    assert found(f"```markdown\n{text}\n```\n") == BODIES
    assert found(f"\n~~~\n{text}\n") == BODIES
    assert parse_sections(f"```python\n{text}\n```") == Sections()
    assert parse_sections("```") == parse_sections("```\n```") == Sections()


def test_a_title_that_sounds_like_a_section_is_none() -> None:
    text = "# Retention brief\n\nLead.\n\n## Churn drivers\n\na\n\n## Anything\n\nb"
    assert found(text) == ["a", None, None, None, None, None]


def test_a_rule_typed_below_a_paragraph_is_a_rule() -> None:
    paragraph = "The first invoice comes as a shock.\nThe second is left unpaid."
    text = f"## Why they churn\n\n{paragraph}\n---\n\n## Offer structure\n\nb"
    assert found(text)[0] == f"{paragraph}\n---"
    assert found(text)[3] == "b"


def test_rules_and_blank_lines_around_a_section_are_left_out() -> None:
    assert found("## Offer structure\n\n\n  a\n\n---\n\n***\n\n\n## When to reach out\n\nb\n\n") == [
        None,
        None,
        None,
        "  a",
        "b",
        None,
    ]


@pytest.mark.parametrize(
    "text", ["", " \n", "## Why they churn", "## Why they churn\n\n---\n", "No headings.\n\nAt all."]
)
def test_an_empty_section_is_none(text: str) -> None:
    assert parse_sections(text) == Sections()


def test_what_lies_beyond_the_limit_is_not_read() -> None:
    text = "## Why they churn\n\n" + "word " * PARSED_CHARACTERS + "\n\n## Offer structure\n\nb"
    sections = parse_sections(text)
    assert sections.offer is None
    assert sections.churn_reasons is not None
    assert len(sections.churn_reasons) < PARSED_CHARACTERS


@pytest.mark.parametrize(
    "piece",
    [
        "#\n",
        "# why\n",
        "- a\n",
        "1. **why**\n\n",
        "> ",
        "- ",
        "[",
        "[a]: b\n",
        "a\n=\n",
        "*",
        "**a",
        "<a\n",
        "\0",
        "\r",
        "```\n",
        " ",
    ],
)
def test_two_megabytes_of_anything_take_bounded_time(piece: str) -> None:
    started = time.process_time()
    parse_sections(piece * (2_000_000 // len(piece)))
    assert time.process_time() - started < 10


PIECES = st.sampled_from(
    [
        *HEADINGS,
        "# ",
        "## ",
        "### ",
        "**",
        "1. ",
        "2. ",
        "\n",
        "\n\n",
        "\r\n",
        "---\n",
        "===\n",
        "```\n",
        "> ",
        "- ",
        "text",
        "\t",
        "\0",
        "\x0b",
        "\u2028",
    ]
)


@given(st.text() | st.lists(PIECES, max_size=60).map("".join))
def test_every_section_is_a_literal_piece_of_its_text(markdown: str) -> None:
    for section in parse_sections(markdown).as_dict().values():
        assert section is None or (section.strip() and section in markdown)


@given(st.permutations(list(zip(KEYS, HEADINGS, strict=True))), st.integers(1, 6), st.data())
def test_the_asked_headings_are_found_in_any_order_and_number(
    pairs: list[tuple[str, str]], level: int, data: st.DataObject
) -> None:
    kept = pairs[: data.draw(st.integers(0, 6))]
    text = "\n\n".join(f"{'#' * level} {heading}\n\nAbout {key}." for key, heading in kept)
    expected = {key: f"About {key}." for key, _ in kept}
    assert {k: v for k, v in parse_sections(text).as_dict().items() if v} == expected
