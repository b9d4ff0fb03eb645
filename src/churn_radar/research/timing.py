"""The moments that a brief names, counted from the signal: "within 48 hours", "on day 5", "after two weeks". Pure.

A text names moments in many ways, and durations too ("no mail for 14 days"). Only what plainly counts from the signal
is read; the sentence it stands in is shown beside the date, so that a reader can judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

READ_CHARACTERS = 20_000
MOST_MOMENTS = 12
_LONGEST = timedelta(days=366)

_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
_NUMBERS = {word: number for number, word in enumerate(_WORDS.split())}
_UNITS = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_NUMBER = rf"(?:[0-9]{{1,3}}|{'|'.join(_NUMBERS)})"
_RANGE = r"[ \t]*(?:-|\u2013|\u2014|to|and|or)[ \t]*"
# `within 24 to 48 hours`, `after ten days`, `in two weeks`.
_LATER = re.compile(
    r"\b(?P<word>within|after|in|by)\b[ \t]+(?:the[ \t]+)?(?:first[ \t]+|next[ \t]+|about[ \t]+|another[ \t]+)?"
    rf"(?P<from>{_NUMBER})(?:{_RANGE}(?P<to>{_NUMBER}))?[ \t-]*(?P<working>(?:working|business)[ \t]+)?"
    r"(?P<unit>minute|hour|day|week)s?\b",
    re.IGNORECASE,
)
# `day 5`, `days 3-5`, `Day 0`.
_DAY = re.compile(rf"\bdays?[ \t]+(?P<from>[0-9]{{1,3}})(?:{_RANGE}(?P<to>[0-9]{{1,3}}))?\b", re.IGNORECASE)
# What makes a count start elsewhere than at the signal.
_ELSEWHERE = re.compile(r"^\W*(?:(?:days?|weeks?|hours?)\b\W*)?(?:before|of|prior|ahead|later)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]?")
_MARKS = re.compile(r"[*_`#>]+|^[ \t]*(?:[-+*]|[0-9]+[.)])[ \t]+|\[[0-9]+\]", re.MULTILINE)
_SENTENCE_CHARACTERS = 240


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment the brief names: the words, from when till when they mean, and the sentence they stand in.

    With `is_deadline` it is any time up to the end.
    """

    words: str
    start: datetime
    end: datetime
    is_deadline: bool
    sentence: str


def moments(markdown: str | None, signal_at: datetime) -> list[Moment]:
    """The moments in the section on timing, in the order of time, at most twelve, each sentence's first two."""
    found: list[Moment] = []
    plain = _MARKS.sub("", (markdown or "")[:READ_CHARACTERS])
    for sentence in _SENTENCE.findall(plain):
        shown = " ".join(sentence.split())
        if not shown:
            continue
        for match in [*_LATER.finditer(sentence), *_DAY.finditer(sentence)]:
            moment = _moment(match, sentence, shown[:_SENTENCE_CHARACTERS], signal_at)
            if moment is not None and all(each.words != moment.words or each.sentence != shown for each in found):
                found.append(moment)
    return sorted(found, key=lambda moment: (moment.end, moment.start))[:MOST_MOMENTS]


def _moment(match: re.Match[str], sentence: str, shown: str, signal_at: datetime) -> Moment | None:
    if _ELSEWHERE.match(sentence[match.end() :]):
        return None
    told = match.groupdict()
    unit = _UNITS[(told.get("unit") or "day").lower()]
    first = _count(match["from"])
    last = _count(match["to"]) if match["to"] else first
    if last < first or last * unit > _LONGEST:
        return None
    if told.get("working"):
        start, end = _after_working_days(signal_at, first), _after_working_days(signal_at, last)
    else:
        start, end = signal_at + first * unit, signal_at + last * unit
    is_deadline = (told.get("word") or "").lower() in ("within", "by")
    return Moment(" ".join(match[0].split()), signal_at if is_deadline else start, end, is_deadline, shown)


def _after_working_days(moment: datetime, count: int) -> datetime:
    """So many days later, Saturdays and Sundays not counted."""
    for _ in range(count):
        moment += _UNITS["day"] * (3 if moment.weekday() == 4 else 2 if moment.weekday() == 5 else 1)
    return moment


def _count(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBERS[text.lower()]
