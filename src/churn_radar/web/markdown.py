"""Markdown from outside as HTML that is harmless on a page, and as plain text. Pure.

Written by a language model, from facts that end users write in part: HTML in it is text, links lead to the web or to a
mail address and nowhere else, pictures are not loaded. markdown-it leaves HTML out, and nh3 lets through nothing but
the few elements below, whatever the first has made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

# What one page shows of a text, twice what a long brief has: hostile Markdown takes time by the square of its length.
SHOWN_CHARACTERS = 20_000

_RENDERER = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable("table").disable("image")
_HEADINGS = {f"h{level}": f"h{max(3, min(level + 1, 6))}" for level in range(1, 7)}
_CITATION = re.compile(r"\[(?P<number>[0-9]{1,3})\](?![(\[:])")
_UNSUPPORTED = "unsupported"

# A link to another page of ours would lend it our own address; only those to the sources on this page are ours.
_LEADS_OUT = re.compile(r"(?:https?://|mailto:)[^\s]+|#source-[0-9]+", re.IGNORECASE)


def _attribute(_: str, name: str, value: str) -> str | None:
    return value if name != "href" or _LEADS_OUT.fullmatch(value) else None


_CLEANER = nh3.Cleaner(
    tags={
        *("p", "br", "hr", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong", "a"),
        *("table", "thead", "tbody", "tr", "th", "td", "sup"),
    },
    attributes={
        "a": {"href"},
        "ol": {"start"},
    },
    attribute_filter=_attribute,
    allowed_classes={"p": {_UNSUPPORTED}},
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener nofollow",
    # Every block decides by its own letters which way it reads: a name from the right to the left turns nothing else.
    set_tag_attribute_values={tag: {"dir": "auto"} for tag in ("p", "li", "h3", "h4", "h5", "h6", "th", "td", "pre")},
)


def parts_of(markdown: str) -> list[str]:
    """A text in pieces of which a page shows one, cut where lines end if they do; most texts are one piece."""
    parts: list[str] = []
    start = 0
    while len(markdown) - start > SHOWN_CHARACTERS:
        end = markdown.rfind("\n", start + SHOWN_CHARACTERS // 2, start + SHOWN_CHARACTERS) + 1
        end = end or start + SHOWN_CHARACTERS
        parts.append(markdown[start:end])
        start = end
    return [*parts, markdown[start:]]


def as_html(markdown: str, *, sources: int = 0, claims: Sequence[str] = ()) -> Markup:
    """The first piece of a text as HTML. `[2]` links to the page's `#source-2`, if there are as many sources.

    Paragraphs and items in which one of `claims` stands are marked as unsupported.
    """
    return Markup(_rendered(markdown[:SHOWN_CHARACTERS], sources, tuple(claims)))  # noqa: S704  cleaned by nh3


@lru_cache(maxsize=128)
def _rendered(markdown: str, sources: int, claims: tuple[str, ...]) -> str:
    tokens = _RENDERER.parse(markdown)
    wanted = [_squeezed(claim) for claim in claims if len(claim) >= 8]
    for token, after in zip(tokens, [*tokens[1:], None], strict=False):
        if token.tag in _HEADINGS and token.type.startswith("heading"):
            token.tag = _HEADINGS[token.tag]
        if token.type == "paragraph_open":
            # In a tight list the paragraph is not shown, and a hidden token shows no class: its text is marked instead.
            token.hidden = token.hidden and not _holds(after, wanted)
            if _holds(after, wanted):
                token.attrSet("class", _UNSUPPORTED)
        if token.type == "inline" and sources:
            token.children = [new for child in token.children or () for new in _cited(child, sources)]
    html = _RENDERER.renderer.render(tokens, _RENDERER.options, {})
    return _CLEANER.clean(html)


def _holds(token: Token | None, claims: Sequence[str]) -> bool:
    return bool(claims) and token is not None and any(claim in _squeezed(_words(token)) for claim in claims)


def _squeezed(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().casefold()


def _cited(token: Token, sources: int) -> list[Token]:
    """A piece of text with the numbers of sources in it as links to them."""
    if token.type != "text" or not _CITATION.search(token.content):
        return [token]
    pieces: list[Token] = []
    done = 0
    for found in _CITATION.finditer(token.content):
        if not 1 <= int(found["number"]) <= sources:
            continue
        opening = Token("link_open", "a", 1, attrs={"href": f"#source-{int(found['number'])}"})
        pieces += [_text(token.content[done : found.start()]), opening, _text(found[0]), Token("link_close", "a", -1)]
        done = found.end()
    return [*pieces, _text(token.content[done:])]


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


def _words(token: Token) -> str:
    """The text of an inline token, as it reads."""
    words = {"softbreak": "\n", "hardbreak": "\n"}
    return "".join(words.get(child.type, child.content) for child in token.children or ())


def as_text(markdown: str) -> str:
    """A text without its marks, to be pasted where there is no formatting: lines, items with a dash or their number."""
    lines: list[str] = []
    marks: list[str] = []
    lists: list[int | None] = []
    for token in _RENDERER.parse(markdown[:SHOWN_CHARACTERS]):
        match token.type:
            case "bullet_list_open":
                lists.append(None)
            case "ordered_list_open":
                lists.append(int(token.attrGet("start") or 1))
            case "bullet_list_close" | "ordered_list_close":
                lists.pop()
            case "list_item_open":
                number = lists[-1]
                marks.append("- " if number is None else f"{number}. ")
                if number is not None:
                    lists[-1] = number + 1
            case "inline":
                lines.append("  " * max(len(lists) - 1, 0) + (marks.pop() if marks else "") + _words(token).strip())
                marks.clear()
            case "fence" | "code_block":
                lines.append(token.content.rstrip())
            case "paragraph_close" | "heading_close" if not token.hidden:
                lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
