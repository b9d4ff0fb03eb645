"""The alert as it is printed: who may be leaving, what they are worth, and how the brief begins."""

from __future__ import annotations

from churn_radar.triage.text import clean_text, terminal_safe

RULE = "=" * 60
_ABSENT = "N/A"
# A mail address has at most 254 characters (RFC 5321), a persona up to two attributes of 120.
_VALUE_CHARACTERS = 320
# How much of a brief is cleaned for each character shown, so that a huge brief costs no more than a long one.
_RAW_PER_CHARACTER = 4


def alert_block(
    *,
    event: str,
    email: str,
    persona: str,
    mrr: str,
    tenure: str,
    plan: str,
    brief: str,
    source_count: int,
    brief_characters: int = 2000,
) -> str:
    """The alert block: a rule, who, what they are worth, a rule, the brief's beginning, its sources' number.

    `mrr` comes with its currency (`$850`), `tenure` with its unit (`342d`, or `N/A`); blank values read
    `N/A`. The brief is cut to `brief_characters`. Escape sequences, control characters and direction
    overrides are taken out of everything: attributes and briefs come from outside, and whoever prints the
    block must not have their terminal steered by them. Values are one line each; the brief keeps its lines.
    No line break follows the last line.
    """
    shown = terminal_safe(brief[: brief_characters * _RAW_PER_CHARACTER])[: max(brief_characters, 0)]
    return "\n".join(
        (
            RULE,
            f"CHURN ALERT: {_value(event)} | {_value(email)} | {_value(persona)}",
            f"MRR: {_value(mrr)} | Tenure: {_value(tenure)} | Plan: {_value(plan)}",
            RULE,
            shown,
            f"Sources: {source_count}",
        )
    )


def _value(text: str) -> str:
    return clean_text(text, _VALUE_CHARACTERS) or _ABSENT
