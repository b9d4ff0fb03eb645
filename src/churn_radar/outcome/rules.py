"""What may become of a customer with a brief, and what follows from that. Pure.

A brief is open until somebody says how it ended. `contacted` is on the way; the other three end it, and an end can be
taken back: whatever was said last counts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from churn_radar.triage.text import clean_text, terminal_safe

MOST_NOTE_CHARACTERS = 2000
MOST_NAME_CHARACTERS = 120
# Nobody means to be reminded later than this; a date far off is a slip of the keyboard.
LONGEST_SNOOZE = timedelta(days=366)


class Outcome(StrEnum):
    """What became of the customer."""

    CONTACTED = "contacted"
    SAVED = "saved"
    LOST = "lost"
    NOT_A_RISK = "not_a_risk"

    @property
    def label(self) -> str:
        """As people read it."""
        return _LABELS[self]


_LABELS = {
    Outcome.CONTACTED: "contacted",
    Outcome.SAVED: "saved",
    Outcome.LOST: "lost",
    Outcome.NOT_A_RISK: "not a churn risk",
}

CLOSING = frozenset({Outcome.SAVED, Outcome.LOST, Outcome.NOT_A_RISK})
# Nobody is saved without having been spoken to; lost, or never at risk, they may be.
TELLS_OF_CONTACT = frozenset({Outcome.CONTACTED, Outcome.SAVED})


class NotSensible(ValueError):
    """What somebody asks for makes no sense; the message says why, and quotes nothing."""


def is_open(outcome: Outcome | None) -> bool:
    """Whether the brief still waits for its end."""
    return outcome not in CLOSING


def read_note(text: str | None) -> str | None:
    """A note as it is kept: trimmed, harmless to a terminal; None when blank. Raises NotSensible when too long."""
    note = terminal_safe(text or "").strip()
    if len(note) > MOST_NOTE_CHARACTERS:
        raise NotSensible(f"a note is at most {MOST_NOTE_CHARACTERS} characters long")
    return note or None


def read_owner(text: str | None) -> str | None:
    """The name of whoever looks after a brief, as one line; None for nobody. Raises NotSensible when too long."""
    if text is None or not text.strip():
        return None
    name = clean_text(text, MOST_NAME_CHARACTERS + 1)
    if name is None or len(name) > MOST_NAME_CHARACTERS:
        raise NotSensible(f"an owner is a name of at most {MOST_NAME_CHARACTERS} characters")
    return name


def read_snooze(until: datetime, now: datetime) -> datetime:
    """Until when a brief is put aside. Raises NotSensible for a moment that is past, or too far off."""
    if until <= now:
        raise NotSensible("that moment is past; name one that is still to come")
    if until - now > LONGEST_SNOOZE:
        raise NotSensible(f"a brief can be put aside for {LONGEST_SNOOZE.days} days at most")
    return until
