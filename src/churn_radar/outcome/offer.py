"""A short name for the offer that a brief proposes, so that outcomes can be counted by it. Pure.

The section is free text of a language model; the names are a fixed, short list of ours. So they can be counted, shown
and told to Mave again without anything of a customer in them.
"""

from __future__ import annotations

import re

# Only the beginning is read: the lead offer stands first, fallbacks and conditions follow.
READ_CHARACTERS = 4000

_PERCENT = re.compile(r"\b(\d{1,2})\s?(?:%|percent\b|per cent\b)")
_NO_DISCOUNT = re.compile(r"\b(?:no|not|nothing|never|without|before|instead of|rather than)\b[^.;\n]{0,30}\bdiscount")
_OFFERS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("discount", r"\bdiscount|\b\d{1,2}\s?(?:%|percent|per cent)\s+(?:off|less|discount|reduction)|\bprice cut"),
        ("free months", r"\bfree (?:month|week|quarter)|\bmonths? (?:\w+ )?free\b|\bmonth is on us"),
        ("account credit", r"\bcredits?\b"),
        ("pause", r"\bpaus(?:e|ing)\b"),
        ("smaller plan", r"\bdowngrad|\bstep down|\bsmaller plan|\bright-?siz|\bfewer seats"),
        ("yearly plan", r"\b(?:annual|yearly) (?:plan|billing|commitment|contract|term)"),
        ("trial", r"\btrial\b|\b\d+-day look\b"),
        ("set-up help", r"\bonboarding|\bset-?up session|\bset-?up help|\btraining|\bmigration help|\bconcierge"),
        ("review", r"\b(?:business |quarterly |success )?review\b|\bsuccess plan|\b\d+-day plan|\bsponsor"),
        ("upgrade", r"\bupgrade|\bunlock|\bpremium feature|\bpaid feature"),
    )
)
OTHER = "other"
LABELS = (*(name for name, _ in _OFFERS), OTHER)


def offer_label(section: str | None) -> str | None:
    """The offer that is named first in the section, as one of LABELS; a discount with its size where that is told.

    None where the brief shows no offer, `other` for one that none of the names fits. Sizes are rounded to 5 %, so that
    there are few of them.
    """
    text = (section or "")[:READ_CHARACTERS].casefold()
    if not text.strip():
        return None
    text = _NO_DISCOUNT.sub(" ", text)
    found = [(match.start(), name) for name, pattern in _OFFERS if (match := pattern.search(text))]
    if not found:
        return OTHER
    place, name = min(found)
    if name != "discount":
        return name
    line = text[max(0, place - 40) : place + 60]
    percent = _PERCENT.search(line)
    size = round(int(percent[1]) / 5) * 5 if percent else 0
    return f"discount {size} %" if size else name
