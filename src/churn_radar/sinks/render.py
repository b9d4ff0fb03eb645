"""A message in the words of a family of services: plain text, Markdown, HTML. Pure.

Everything in a message but its links may come from outside, so each family's own marks are escaped, nobody is called
by an `@` (`@channel`, `@everyone`), and no address in it can be clicked. What does not fit is cut from the lines first,
then from the links that are not the first: facts, caution and the link to the brief stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import escape

from churn_radar.sinks.gist import shorten
from churn_radar.sinks.message import Message
from churn_radar.triage.text import clean_text

_ZERO_WIDTH = "\u200b"
# An `@` that begins a word calls somebody; in the middle of one it belongs to a mail address.
_CALLS = re.compile(r"(?<![\w.+-])@(?=\w)")
_CALLS_BY_WORD = re.compile(r"@(?=(?:channel|here|everyone|all|group|team)\b)", re.IGNORECASE)
_SCHEME = re.compile(r"://|(?<=\bwww)\.", re.IGNORECASE)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#|~])")

VALUE_CHARACTERS = 320
_LINE_LENGTHS = (240, 160, 100, 60)


def inert(text: str, limit: int = VALUE_CHARACTERS) -> str:
    """Text from outside as one line that calls nobody and links nowhere, whoever shows it."""
    line = clean_text(text, limit) or "N/A"
    line = _CALLS_BY_WORD.sub(f"@{_ZERO_WIDTH}", _CALLS.sub(f"@{_ZERO_WIDTH}", line))
    return _SCHEME.sub(lambda found: f"{found[0][0]}{_ZERO_WIDTH}{found[0][1:]}", line)


def title(message: Message, limit: int = 200) -> str:
    """The title, for services that show one by itself, and as a mail's subject."""
    return shorten(inert(message.title), limit)


def as_text(message: Message, limit: int) -> str:
    """Plain text; the title is not in it."""
    return _fit(_text, message, limit)


def as_markdown(message: Message, limit: int) -> str:
    """Markdown as chat services read it; the title is not in it."""
    return _fit(_markdown, message, limit)


def as_html(message: Message, limit: int) -> str:
    """HTML as mail readers show it, with its title."""
    return _fit(_html, message, limit)


def _fit(render: Callable[[Message, int], str], message: Message, limit: int) -> str:
    """The longest form that fits: lines are shortened, then all links but the first left out, and the lines go last.

    A message that does not fit even so is cut as plain text.
    """
    short = replace(message, links=message.links[:1])
    for form in (message, short):
        for length in _LINE_LENGTHS:
            whole = render(form, length)
            if len(whole) <= limit:
                return whole
    bare = render(short, 0)
    return bare if len(bare) <= limit else shorten(_text(message, 0), limit)


def _lines(message: Message, length: int) -> list[tuple[str, str]]:
    return [(word, inert(shorten(line, length), 1000)) for word, line in message.lines] if length else []


def _text(message: Message, length: int) -> str:
    facts = " | ".join(f"{name}: {inert(value)}" for name, value in message.facts)
    parts = [facts] if facts else []
    if lines := _lines(message, length):
        parts.append("\n".join(f"{word}: {line}" for word, line in lines))
    if message.caution:
        parts.append(f"! {inert(message.caution, 1000)}")
    if message.links:
        parts.append("\n".join(f"{link.label}: {link.url}" for link in message.links))
    return "\n\n".join(parts)


def _markdown(message: Message, length: int) -> str:
    facts = " · ".join(f"**{name}** {_escaped(inert(value))}" for name, value in message.facts)
    parts = [facts] if facts else []
    if lines := _lines(message, length):
        parts.append("\n".join(f"* **{word}:** {_escaped(line)}" for word, line in lines))
    if message.caution:
        parts.append(f"⚠️ **{_escaped(inert(message.caution, 1000))}**")
    if message.links:
        parts.append(" · ".join(f"[{link.label}]({link.url})" for link in message.links))
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _html(message: Message, length: int) -> str:
    parts = [f"<h2>{escape(title(message))}</h2>"]
    if message.facts:
        facts = "<br>\n".join(f"<b>{escape(name)}:</b> {escape(inert(value))}" for name, value in message.facts)
        parts.append(f"<p>{facts}</p>")
    parts += [f"<p><b>{escape(word)}:</b> {escape(line)}</p>" for word, line in _lines(message, length)]
    if message.caution:
        parts.append(f"<p><b>&#9888; {escape(inert(message.caution, 1000))}</b></p>")
    if message.links:
        first, *others = message.links
        parts.append(f"<p>{escape(first.label)}: {_anchor(first.url, first.url)}</p>")
        if others:
            parts.append(f"<p>{' &middot; '.join(_anchor(link.url, link.label) for link in others)}</p>")
            # Mail programs make their text of what is to be seen, and Apprise does for the mail's own text part: of a
            # link only its label would be left. So the addresses stand there once more, in small print.
            shown = "<br>\n".join(f"{escape(link.label)}: {_anchor(link.url, link.url)}" for link in others)
            parts.append(f'<p style="font-size: 11px; color: #6b7280; word-break: break-all">{shown}</p>')
    return "\n".join(parts)


def _anchor(url: str, words: str) -> str:
    return f'<a href="{escape(url)}">{escape(words)}</a>'
