"""What came beside a brief, read tolerantly: everything but the text is optional, and none of it is trusted.

Mave's answer carries `sources` and `validation` (its own confidence, hallucination risk and the claims that
it could not support). Readers see them as claims to check, so only what can be shown safely is kept.
"""

from __future__ import annotations

import math
import re
import unicodedata
from itertools import islice
from urllib.parse import SplitResult, urlsplit

from churn_radar.research.sections import Sections, parse_sections
from churn_radar.triage.text import clean_text

_LARGEST_QUESTION = 4000
# Closing marks that may stand behind a question mark: emphasis, quotes, brackets.
_CLOSING = " \t\r\n*_~`\"')]}>\u2019\u201d\u00bb"
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")

MOST_SOURCES = 100
_MOST_LOOKED_AT = 1000
_LONGEST_URL = 2000
_TEXT_LIMITS = {"title": 300, "snippet": 1000, "type": 40}
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)*\.?|\[[0-9a-f:.]+\]")

MOST_CLAIMS = 50
_CLAIM_CHARACTERS = 500
_CLAIM_KEYS = ("claim", "text", "statement", "content", "message")
_RISKS = frozenset({"low", "medium", "high"})


def is_clarifying_question(content: str) -> bool:
    """Whether Mave asked back instead of writing a brief, as its documentation says it may.

    A question shows none of the six sections, ends in a question mark (emphasis, quotes and brackets behind
    it aside), and is short: a page of text that closes with an offer of more help is a brief, if a poor one.
    """
    said = content.rstrip(_CLOSING)
    if len(said) > _LARGEST_QUESTION or not said.endswith(_QUESTION_MARKS):
        return False
    return parse_sections(content) == Sections()


def clean_sources(raw: object) -> list[dict[str, object]]:
    """The sources that can be shown: at most 100, in their order, each with `url` and `domain`.

    Kept are entries, maps or plain strings, whose address is http or https with a host, at most 2,000
    characters long, and free of user names (`https://bank.com@evil.io`), whitespace, control and invisible
    characters, backslashes and angle brackets. `domain` is the address's host in lower case without `www.`,
    whatever the entry claims. `title`, `snippet` and `type` are kept as one clean line each where they are
    text, `relevance` where it is a finite number or text. Anything but a list gives an empty list.
    """
    if not isinstance(raw, list):
        return []
    sources = (_source(entry) for entry in raw[:_MOST_LOOKED_AT])
    return list(islice((source for source in sources if source is not None), MOST_SOURCES))


def confidence(value: object) -> float | None:
    """Mave's confidence as 0 to 1. It is documented as 0 to 1 or 1 to 10: what exceeds 1 is out of ten."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 10:
        return None
    return float(value) if value <= 1 else round(value / 10, 4)


def risk(value: object) -> str | None:
    """Mave's hallucination risk, `low`, `medium` or `high`; None for anything else."""
    level = value.strip().lower() if isinstance(value, str) else ""
    return level if level in _RISKS else None


def unsupported_claims(value: object) -> list[str]:
    """The claims Mave could not support, one clean line each: at most 50, of at most 500 characters.

    Entries are strings, or maps with the claim under a key such as `claim` or `text`; others are left out.
    """
    if not isinstance(value, list):
        return []
    claims = (clean_text(_claim(entry), _CLAIM_CHARACTERS) for entry in value[:_MOST_LOOKED_AT])
    return list(islice((claim for claim in claims if claim is not None), MOST_CLAIMS))


def _source(entry: object) -> dict[str, object] | None:
    fields = entry if isinstance(entry, dict) else {"url": entry}
    url = fields.get("url")
    parts = _web_address(url.strip()) if isinstance(url, str) else None
    if parts is None or parts.hostname is None:
        return None
    source: dict[str, object] = {"url": parts.geturl(), "domain": _domain(parts.hostname)}
    for name, limit in _TEXT_LIMITS.items():
        text = clean_text(fields.get(name), limit)
        if text is not None:
            source[name] = text
    relevance = _relevance(fields.get("relevance"))
    if relevance is not None:
        source["relevance"] = relevance
    return source


def _web_address(url: str) -> SplitResult | None:
    # Checked before it is parsed, for the parser silently drops line breaks and tabs.
    if not 0 < len(url) <= _LONGEST_URL or any(_deceives(character) for character in url):
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        return None
    named = f"[{host}]" if ":" in host else host
    return parts if _HOST.fullmatch(named) else None


def _deceives(character: str) -> bool:
    return character in '\\<>"`' or unicodedata.category(character)[0] in "CZ"


def _domain(host: str) -> str:
    return host.removesuffix(".").removeprefix("www.")


def _relevance(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if math.isfinite(value) and abs(value) < 10**15 else None
    return clean_text(value, 40)


def _claim(entry: object) -> object:
    if not isinstance(entry, dict):
        return entry if isinstance(entry, str) else None
    return next((entry[key] for key in _CLAIM_KEYS if isinstance(entry.get(key), str)), None)
