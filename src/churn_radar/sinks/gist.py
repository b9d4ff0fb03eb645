"""Three lines of substance out of a brief: why they leave, what to offer, when to reach out. Pure, and tolerant.

A brief is Markdown by a language model: what a line is made of is the first thing that a section says, as plain text,
without its marks, its citations and its links.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from churn_radar.research.brief import Brief
from churn_radar.triage.text import clean_text

LINES = 3
LINE_CHARACTERS = 240
# Of a section; what it says first is at its beginning, and the time that it takes is bounded by this.
_READ_CHARACTERS = 4000

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable(["image", "autolink"])
_CITATION = re.compile(r"\s*\[\^?\d{1,3}\](?!\()")
_URL = re.compile(r"\b(?:[a-z][a-z0-9+.-]{1,20}://|www\.)\S+", re.IGNORECASE)
_BLOCKS = frozenset({"paragraph_open"})


def gist(brief: Brief) -> list[tuple[str, str]]:
    """Up to three lines, each with the word that introduces it: `Why`, `Offer`, `When`, else `Try` or `In short`."""
    sections = brief.sections
    wanted = (
        ("Why", sections.churn_reasons),
        ("Offer", sections.offer),
        ("When", sections.timing),
        ("Try", sections.retention_tactics),
        ("Watch", sections.reengagement_signals),
    )
    lines = [(word, line) for word, text in wanted if text and (line := first_line(text))]
    if not lines and (line := first_line(brief.research_brief)):
        lines = [("In short", line)]
    return lines[:LINES]


def first_line(markdown: str, limit: int = LINE_CHARACTERS) -> str | None:
    """The first thing that a piece of Markdown says, as one line of plain text; None when it says nothing."""
    said = ""
    for text in _texts(markdown[:_READ_CHARACTERS]):
        said = f"{said} {text}".strip()
        # A label by itself (`Lead with:`) says nothing yet.
        if len(said) > 20 and not said.endswith(":"):
            break
    return shorten(said, limit) if said else None


def shorten(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, cut between words, with an ellipsis where something is missing."""
    if len(text) <= limit:
        return text
    if limit < 2:
        return ""
    cut = text[: limit - 1]
    kept = cut.rpartition(" ")[0] if not text[limit - 1].isspace() else cut
    return f"{(kept or cut).rstrip(' ,;:.')}…"


def _texts(markdown: str) -> Iterator[str]:
    tokens = _MARKDOWN.parse(markdown)
    for before, token in pairwise(tokens):
        if token.type == "inline" and before.type in _BLOCKS:
            plain = _URL.sub("", _CITATION.sub("", "".join(_plain(token.children or []))))
            if line := clean_text(plain, 1000):
                yield line


def _plain(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        match token.type:
            case "text" | "code_inline":
                yield token.content
            case "softbreak" | "hardbreak":
                yield " "
