"""A brief's Markdown, taken apart into the six sections that were asked for.

Mave is asked for six headings by name, but a language model answers as it likes: other levels, numbers, bold
lines instead of headings, other words, a title around it all. What cannot be told apart stays None, for the
whole brief is kept beside its sections, and a wrong section is worse than a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from markdown_it import MarkdownIt
from markdown_it.token import Token

from churn_radar.research.prompt import ASKS

# Far above any brief seen (some 20,000); it bounds the time that a hostile or broken answer can take.
PARSED_CHARACTERS = 100_000

_KEYS = tuple(ask.key for ask in ASKS)
# What a heading can be about besides the six: a summary, the sources, a conclusion.
_OTHER = "other"

# Beginnings of words that speak for a section; whichever section has most of them in a heading gets it.
_STEMS: dict[str, tuple[str, ...]] = {
    "churn_reasons": ("churn", "reason", "driver", "cause", "leav", "cancel"),
    "retention_tactics": ("retention", "retain", "tactic", "playbook", "proven", "example", "strateg"),
    "winback_emails": ("winback", "email", "mail", "sequence"),
    "offer": ("offer", "discount", "incentive", "structure", "pricing"),
    "timing": ("timing", "time", "reach", "outreach", "cadence", "schedule"),
    "reengagement_signals": ("reengag", "signal", "indicator", "watch", "monitor"),
    _OTHER: (
        *("summary", "executive", "introduction", "intro", "overview", "background", "conclusion", "takeaway"),
        *("source", "reference", "citation", "assumption", "appendix", "next", "note", "methodology", "caveat"),
    ),
}
# A question decides by its first word: `When to send win-back emails` is about time.
_QUESTIONS = {"why": "churn_reasons", "when": "timing"}
_JOINS = (
    (re.compile(r"\bwin(?:ning)?[\W_]*(?:(?:them|customers|users)[\W_]+)?back"), "winback"),
    (re.compile(r"\bre[\W_]*engag"), "reengag"),
    (re.compile(r"\be[\W_]mail"), "email"),
)

# Pseudo levels, below the six of Markdown: a line that is bold from end to end, alone or in an ordered item.
_BOLD_LINE, _BOLD_ITEM = 7, 8
_BOLD = re.compile(r"(?:(?P<number>[0-9]{1,2})[.):] *)?(?P<mark>\*\*|__)(?P<text>(?:(?!(?P=mark)).){1,200})(?P=mark):?")
_NUMBER = re.compile(r"[^\w]*(?:(?:section|part|question) )?(?P<number>[0-9]{1,2})\b")
_HEADING_CHARACTERS = 160

# Blocks are enough to find headings; the inline rules are the slow part of Markdown.
_BLOCKS = MarkdownIt("commonmark").disable("inline")
# The parser's own line breaks, kept on their lines, so that a section is a literal piece of its brief.
_LINES = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_WRAPPERS = frozenset({"", "md", "markdown"})


@dataclass(frozen=True, slots=True)
class Sections:
    """The six sections, each Markdown without its heading; None where the brief shows none for sure."""

    churn_reasons: str | None = None
    retention_tactics: str | None = None
    winback_emails: str | None = None
    offer: str | None = None
    timing: str | None = None
    reengagement_signals: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The sections by key, in the order in which they were asked for."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class _Heading:
    line: int
    body: int
    level: int
    number: int | None
    words: tuple[str, ...]
    exact: str | None
    guess: str | None


def parse_sections(markdown: str) -> Sections:
    """Find the six sections of a brief; any text gives an answer, in time bounded by the text's length.

    Headings are the top-level ones of CommonMark (never those in code, quotes or lists), and lines that are
    bold from end to end, alone or in a top-level ordered list. The level that names most sections carries
    them: there a heading is taken by the words asked for, else by synonyms, else, when six headings stand
    there and none contradicts it, by position. A section missing there may stand at another level, but only
    under the very words asked for. Of two headings for one section the first wins. Sub-headings belong to
    their section, text before the first heading to none; an empty section is None.

    Only the first 100,000 characters are read; a section that runs past them ends there.
    """
    lines, tokens = _parsed(markdown[:PARSED_CHARACTERS])
    outline = list(_outline(tokens))
    chosen = _choose(outline)
    starts = {heading.line for heading in chosen.values()}
    rules = {token.map[0] for token in tokens if token.type == "hr" and token.map}
    bodies: dict[str, str | None] = {}
    for key, found in chosen.items():
        later = (heading for heading in outline if heading.line > found.line)
        end = next((heading.line for heading in later if _ends(found, heading, starts)), len(lines))
        bodies[key] = _body(lines, found.body, end, rules)
    return Sections(**bodies)


def _parsed(text: str) -> tuple[list[str], list[Token]]:
    lines: list[str] = _LINES.findall(text)
    tokens = _BLOCKS.parse(text)
    if len(tokens) == 1 and tokens[0].type == "fence" and tokens[0].info.strip().lower() in _WRAPPERS:
        # The whole answer came inside one code block: what is in the block is the brief.
        written = [n for n, line in enumerate(lines) if line.strip()]
        closed = len(written) > 1 and not lines[written[-1]].strip(" \t\r\n`~")
        lines = lines[written[0] + 1 : written[-1] if closed else None]
        tokens = _BLOCKS.parse("".join(lines))
    return lines, tokens


def _outline(tokens: Sequence[Token]) -> Iterator[_Heading]:
    """Every heading, and every line that may stand for one, in the order of the text."""
    in_ordered_list = False
    for index, token in enumerate(tokens[:-1]):
        before, inline = tokens[index - 1], tokens[index + 1]
        if token.level == 0:
            in_ordered_list = token.type == "ordered_list_open"
        if inline.type != "inline" or token.map is None:
            continue
        start, end = token.map
        if token.type == "heading_open":
            # A rule typed right below a paragraph makes it a heading by the letter, but hardly by intent.
            if token.level == 0 and len(inline.content) <= _HEADING_CHARACTERS and "\n" not in inline.content:
                yield _heading(start, end, int(token.tag[1:]), inline.content)
            continue
        bold = _BOLD.fullmatch(inline.content.split("\n", 1)[0].strip())
        if bold is None or token.type != "paragraph_open":
            continue
        if token.level == 0:
            yield _heading(start, start + 1, _BOLD_LINE, f"{bold['number'] or ''} {bold['text']}")
        elif token.level == 2 and in_ordered_list and before.type == "list_item_open":
            yield _heading(start, start + 1, _BOLD_ITEM, f"{before.info} {bold['text']}")


def _heading(line: int, body: int, level: int, text: str) -> _Heading:
    plain = text.casefold()
    number = _NUMBER.match(plain)
    words = _words(plain)
    exact = next((key for key, asked in _ASKED if words[: len(asked)] == asked), None)
    return _Heading(line, body, level, int(number["number"]) if number else None, words, exact, _guess(words))


def _words(text: str) -> tuple[str, ...]:
    """The words that a heading is known by: no marks, no leading numbers, one spelling of win-back."""
    for pattern, joined in _JOINS:
        text = pattern.sub(joined, text)
    words = re.findall(r"[^\W_]+", text)
    while words and words[0].isdigit():
        del words[0]
    return tuple(words)


_ASKED = tuple((ask.key, _words(ask.heading.casefold())) for ask in ASKS)


def _guess(words: tuple[str, ...]) -> str | None:
    """The section that most words speak for; None when none does or two are even."""
    if words and words[0] in _QUESTIONS:
        return _QUESTIONS[words[0]]
    score = {key: sum(word.startswith(stems) for word in words) for key, stems in _STEMS.items()}
    best = max(score.values())
    winners = [key for key, points in score.items() if points == best]
    return winners[0] if best and len(winners) == 1 else None


def _choose(outline: Sequence[_Heading]) -> dict[str, _Heading]:
    """Which heading opens which section."""
    levels: dict[int, list[_Heading]] = {}
    for heading in outline:
        levels.setdefault(heading.level, []).append(heading)
    best: dict[str, _Heading] = {}
    best_rank = (0, 0)
    for _, group in sorted(levels.items()):
        named = _by_words(group)
        if group == outline[:1] and not group[0].exact and any(h.guess for h in outline[1:]):
            continue  # one heading above all others is the brief's title, whatever it mentions
        placed = _by_position(group, named)
        # Words weigh first: six sub-headings in a row are not the six sections while five are named above.
        rank = (len(named) + (2 if len(placed) == len(_KEYS) else 0), sum(h.exact == k for k, h in named.items()))
        if placed and rank > best_rank:
            best, best_rank = placed, rank
    for heading in outline:
        if heading.exact:
            best.setdefault(heading.exact, heading)
    return best


def _by_words(group: Sequence[_Heading]) -> dict[str, _Heading]:
    named: dict[str, _Heading] = {}
    for heading in group:
        if heading.exact:
            named.setdefault(heading.exact, heading)
    for heading in group:
        if heading.guess and heading.guess != _OTHER and heading.exact is None:
            named.setdefault(heading.guess, heading)
    return named


def _by_position(group: Sequence[_Heading], named: dict[str, _Heading]) -> dict[str, _Heading]:
    """`named`, completed by position where six headings of the group, and no contradiction, allow it."""
    numbered = [heading for heading in group if heading.number is not None]
    six = numbered
    if [heading.number for heading in numbered] != list(range(1, len(_KEYS) + 1)):
        # Six unnumbered bold lines are labels as likely as headings.
        real = group[0].level not in (_BOLD_LINE, _BOLD_ITEM)
        six = [heading for heading in group if heading.guess != _OTHER or heading.exact] if real else []
    if len(six) != len(_KEYS):
        return named
    places = dict(zip(_KEYS, six, strict=True))
    if any(places[key] is not heading for key, heading in named.items()):
        return named
    unnamed = {key: h for key, h in places.items() if h.exact is None and h.guess is None}
    return {**unnamed, **named}


def _ends(found: _Heading, later: _Heading, starts: set[int]) -> bool:
    """Whether the section that `found` opens stops at the heading `later`."""
    if later.line in starts:
        return True
    if later.level < _BOLD_LINE:
        # `Email 1` at the level of `Win-back emails` is a part of it; the same heading again is not.
        part = later.level == found.level and later.exact is None and later.words != found.words
        own = found.exact or found.guess
        return later.level <= found.level and not (part and own is not None and later.guess == own)
    if later.level != found.level:
        return False
    follows = found.number is not None and later.number == found.number + 1
    return follows or later.guess == _OTHER or later.exact is not None


def _body(lines: Sequence[str], start: int, end: int, rules: set[int]) -> str | None:
    """The lines as they came, without blank lines around them and without a closing rule."""
    while start < end and (not lines[end - 1].strip() or end - 1 in rules):
        end -= 1
    while start < end and not lines[start].strip():
        start += 1
    return "".join(lines[start:end]).rstrip() or None
