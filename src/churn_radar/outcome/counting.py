"""What of a brief is counted, and what changes when its outcome does. Pure.

Sums are kept by the day of the brief, its persona, kind of event, offer and outcome: small enough to be shown at once
however many briefs there are, and without names, so that they outlive the briefs themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from churn_radar.outcome.rules import Outcome

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
EPOCH = date(1970, 1, 1)
# Longer than any wait that means anything; keeps sums of them within 64 bits.
LONGEST_WAIT = timedelta(days=3660)


def day_number(moment: datetime) -> int:
    """Days since 1970, of the day in UTC."""
    return (moment.astimezone(UTC).date() - EPOCH).days


def day_of(number: int) -> date:
    """The day of a number."""
    return EPOCH + timedelta(days=number)


class Group(NamedTuple):
    """What is counted together. `offer` and `outcome` are empty where there is none."""

    day: int
    persona: str
    kind: str
    offer: str
    currency: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Sums:
    """What is counted of a group: MRR in hundredths, credits as Mavera counts them, and how soon people were spoken to.

    `contacts` are the briefs whose customer was spoken to; `within_hour` and so on are those of them for whom that came
    so soon after the signal.
    """

    briefs: int = 0
    mrr_hundredths: int = 0
    credits: int = 0
    contacts: int = 0
    contact_seconds: int = 0
    within_hour: int = 0
    within_day: int = 0
    within_week: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __neg__(self) -> Sums:
        return Sums(*(-getattr(self, f.name) for f in fields(self)))

    @property
    def mrr(self) -> float:
        """In the currency of the group."""
        return self.mrr_hundredths / 100


@dataclass(frozen=True, slots=True)
class Counted:
    """A brief as it is counted."""

    persona: str
    kind: str
    offer: str | None
    currency: str
    mrr: float
    credits: int
    signal_received_at: datetime
    created_at: datetime
    outcome: Outcome | None = None
    first_contact_at: datetime | None = None

    @property
    def group(self) -> Group:
        """Where it is counted."""
        day = day_number(self.created_at)
        return Group(day, self.persona, self.kind, self.offer or "", self.currency, self.outcome or "")

    @property
    def sums(self) -> Sums:
        """What it adds there."""
        one = Sums(briefs=1, mrr_hundredths=round(self.mrr * 100), credits=self.credits)
        if self.first_contact_at is None:
            return one
        # A clock that was set back is no contact before the signal.
        waited = min(max(self.first_contact_at - self.signal_received_at, timedelta()), LONGEST_WAIT)
        return one + Sums(
            contacts=1,
            contact_seconds=int(waited.total_seconds()),
            within_hour=int(waited <= HOUR),
            within_day=int(waited <= DAY),
            within_week=int(waited <= WEEK),
        )


def difference(before: Counted | None, after: Counted | None) -> dict[Group, Sums]:
    """What has to be added to which group, when a brief that was counted as `before` is counted as `after`.

    None stands for a brief that was not counted yet, or is not to be any more.
    """
    change: dict[Group, Sums] = {}
    for counted, sign in ((before, -1), (after, 1)):
        if counted is not None:
            sums = counted.sums if sign > 0 else -counted.sums
            change[counted.group] = change.get(counted.group, Sums()) + sums
    return {group: sums for group, sums in sorted(change.items()) if sums != Sums()}
