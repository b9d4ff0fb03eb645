"""The win-back mails of a brief, told apart where its Markdown shows them. Pure, and tolerant as `sections` is.

Mave outlines three mails as it likes: under headings, under bold lines, or as items of a numbered list. What is not
told apart for sure stays one text: half a mail that is sent as a whole one is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

# As in `sections`: far above any brief, and a bound to what a broken one costs.
PARSED_CHARACTERS = 50_000
MOST_MAILS = 9

_BLOCKS = MarkdownIt("commonmark").disable("inline")
_MAIL = re.compile(r"\b(?:e-?mail|mail|message|touch)\b\W*(?:no\.? *)?(?:[0-9]|one|two|three)\b", re.IGNORECASE)
_ORDINAL = re.compile(r"\b(?:first|second|third|final|last)\b.{0,30}\b(?:e-?mail|mail|message|touch)\b", re.IGNORECASE)
_SUBJECT = re.compile(
    r"^[ \t>*_-]*(?<![^\W_])subject(?: line)?s?[*_ \t]*[:\uff1a][*_ \t]*(?P<subject>\S.*?)[ \t*_]*$",
    re.IGNORECASE | re.MULTILINE,
)
_BOLD = re.compile(r"(?P<mark>\*\*|__)(?P<text>(?:(?!(?P=mark)).){1,200})(?P=mark)[:.]?")
_MARKS = re.compile(r"[*_`#]+")
_BREAKS = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_SUBJECT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Mail:
    """One win-back mail: how the brief calls it, its subject line where one is shown, the rest as Markdown."""

    title: str
    subject: str | None
    body: str


@dataclass(frozen=True, slots=True)
class Mails:
    """What stands before the mails, and the mails; none where they cannot be told apart."""

    introduction: str
    mails: tuple[Mail, ...] = ()


@dataclass(frozen=True, slots=True)
class _Start:
    """A line that may open a mail: its row, the first row below it, its level, its title, what follows on the line."""

    line: int
    below: int
    level: int
    title: str
    rest: str = ""


def split_mails(markdown: str) -> Mails:
    """The mails in the section on win-back mails; any text gives an answer, in time bounded by its length.

    The headings of one level are taken that name at least two mails (`Email 1`, `Second mail`), else numbered bold
    items of which three stand in one list.
    """
    text = markdown[:PARSED_CHARACTERS]
    lines = _BREAKS.findall(text)
    starts = _chosen(list(_starts(_BLOCKS.parse(text))))
    if not starts:
        return Mails(markdown)
    ends = [start.line for start in starts[1:]] + [len(lines)]
    return Mails(
        "".join(lines[: starts[0].line]).strip(),
        tuple(_mail(start, lines[start.below : end]) for start, end in zip(starts, ends, strict=True)),
    )


def _starts(tokens: Sequence[Token]) -> Iterator[_Start]:
    for index, token in enumerate(tokens[:-1]):
        inline = tokens[index + 1]
        if inline.type != "inline" or token.map is None:
            continue
        first, end = token.map
        if token.type == "heading_open" and token.level == 0:
            yield _Start(first, end, int(token.tag[1:]), inline.content)
        elif token.type == "paragraph_open" and (bold := _BOLD.match(inline.content.strip())):
            rest = inline.content.strip().split("\n", 1)[0][bold.end() :]
            if token.level == 0 and not rest.strip():
                yield _Start(first, first + 1, 7, bold["text"])
            elif token.level == 2 and tokens[index - 1].type == "list_item_open":
                yield _Start(first, first + 1, 8, bold["text"], rest)


def _chosen(starts: Sequence[_Start]) -> list[_Start]:
    for level in sorted({start.level for start in starts}):
        group = [start for start in starts if start.level == level]
        named = [start for start in group if _MAIL.search(start.title) or _ORDINAL.search(start.title)]
        if len(named) >= 2:
            return named[:MOST_MAILS]
        if level == 8 and len(group) == 3:
            return group
    return []


def _mail(start: _Start, below: Sequence[str]) -> Mail:
    indent = " " * 3 if start.level == 8 else ""
    text = start.rest.strip(" :\u2013\u2014-") + "\n" + "".join(line.removeprefix(indent) for line in below)
    title = _MARKS.sub("", start.title).strip(" :")
    found = _SUBJECT.search(text)
    if found is None and (in_title := _SUBJECT.search(title.partition(":")[2] or title)):
        return Mail(title, _plain(in_title["subject"]), text.strip())
    if found is None:
        return Mail(title, None, text.strip())
    # The line goes from the body: it is shown, and copied, as the subject.
    return Mail(title, _plain(found["subject"]), (text[: found.start()] + text[found.end() :]).strip())


def _plain(subject: str) -> str:
    return _MARKS.sub("", subject).strip().strip('"\u201c\u201d').strip()[:_SUBJECT_CHARACTERS]
