"""Text from outside, made harmless before it meets a prompt, a page, a log or a terminal.

Customer attributes are written in part by end users, and a brief by a language model: both may carry escape
sequences, line breaks, direction overrides or invisible characters that read one way and act another.
"""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import Decimal

# Whole escape sequences (ECMA-48: CSI; then the string sequences OSC, DCS, SOS, PM and APC; then short ones).
# No class admits the next introducer, so hostile input is scanned once, not once for each introducer.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_NEWLINES = re.compile(r"\r\n?|[\x85\u2028\u2029]")
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

# Letters and marks by Unicode category, yet nothing to see: fillers, joiners, variation selectors.
_INVISIBLE = re.compile(r"[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U000e0100-\U000e01ef]")

_MAIL = re.compile(r"[^\s<>(),;:\"]+\s?(?:[@\uff20\ufe6b]|%40)\s?[^\s<>(),;:\"]+")
REMOVED = "[removed]"

# How much raw text is looked at for each character kept: enough for markup, too little to be slow.
_RAW_PER_CHARACTER = 8


def is_whole(text: str) -> bool:
    """False for text with half of a surrogate pair, which no UTF-8 can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def terminal_safe(text: str) -> str:
    """`text` without escape sequences, control characters, direction overrides and lone surrogates.

    Tabs stay and every line break becomes a newline, so nothing can move the cursor, recolour the screen, set
    a window title or rewrite a line that was printed before. Linear in the length of `text`.
    """
    if text.isascii() and text.isprintable():
        return text  # nearly all there is
    return _UNSAFE.sub("", _NEWLINES.sub("\n", _ESCAPES.sub("", text)))


def clean_text(value: object, limit: int = 120) -> str | None:
    """A value from outside as one visible line of at most `limit` characters, or None.

    None for what is no text: blank, None, true and false, NaN and infinities, lists, maps and other objects.
    Line breaks become spaces, runs of whitespace one space; control, format and zero-width characters are
    removed, and the rest is composed (Unicode NFC) so that equal looking text is equal.
    """
    raw = _scalar_text(value)
    if raw is None:
        return None
    if raw.isascii() and raw.isprintable() and len(raw) <= limit:
        return " ".join(raw.split()) or None  # nearly all there is: no work for what follows
    safe = terminal_safe(raw.strip()[: limit * _RAW_PER_CHARACTER])
    seen = "".join(c for c in _INVISIBLE.sub("", safe) if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
    line = " ".join(unicodedata.normalize("NFC", seen).split())
    return line[:limit].rstrip() or None


def clean_words(value: object, limit: int = 120) -> str | None:
    """As `clean_text`, but never with half a word at the end; None when even the first word is too long.

    What is hidden later (names, mail addresses) is looked for whole, so no cut may leave a piece of it.
    """
    line = clean_text(value, limit + 1)
    if line is None or len(line) <= limit:
        return line
    return line[:limit].rpartition(" ")[0].rstrip() or None


def hide_mail(text: str) -> str:
    """`text` with everything that looks like a mail address replaced by `[removed]`."""
    return _MAIL.sub(REMOVED, text)


def _scalar_text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits; no attribute means one.
        return str(value) if abs(value) < 10**30 else None
    if isinstance(value, (float, Decimal)) and math.isfinite(value):
        return str(value)
    return None
