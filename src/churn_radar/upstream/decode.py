"""JSON from outside, read as far as it can be read. Pure."""

from __future__ import annotations

import json
import re

# Half of a surrogate pair (an emoji cut in two) and NUL are legal in JSON's escapes, but no UTF-8 and no SQL text
# can hold them. The first group skips over what only looks like one: other escapes, and whole pairs.
_UNSTORABLE_ESCAPE = re.compile(
    r"(\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u(?:[dD][89a-fA-F][0-9a-fA-F]{2}|0000)"
)


def decode_json(raw: bytes) -> object:
    """Decode an answer's body; None when it is no JSON at all.

    Forgives a byte order mark, broken UTF-8, raw line breaks inside strings, and NaN or Infinity (read as null).
    Every string that comes out can be stored: what cannot has become U+FFFD.
    """
    text = raw.decode("utf-8-sig", errors="replace").replace("\0", "\ufffd")
    text = _UNSTORABLE_ESCAPE.sub(lambda match: match[1] or "\\ufffd", text)
    try:
        value: object = json.loads(text, strict=False, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return value
