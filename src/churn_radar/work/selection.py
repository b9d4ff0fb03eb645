"""Which signals a replay of many is about. The rule is pure; the walk over the record goes page by page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from churn_radar.store.record import Record
from churn_radar.store.signals import Signal, signals_with_status
from churn_radar.store.tables import Status

PAGE = 500
# Signals looked at for one answer, however few of them are chosen: neither memory nor time grows with the record.
MOST_LOOKED_AT = 5000
NO_ANSWER = "none"
STATUS_PATTERN = r"^([1-5][0-9]{2}|[1-5]xx|none)$"

_AGO = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Selection:
    """All signals of one status, or those of them that fit every condition given.

    `reason` is found anywhere in the signal's reason, in whatever case. `failed_service` and `failed_status` are what
    a dead letter died of: `mavera`; `503`, `5xx`, or `none` where no answer came. `since` (at or after) and `until`
    (before) are about when the event was received: that never changes, so a selection means the same signals however
    often it is made.
    """

    status: Status
    reason: str | None = None
    failed_service: str | None = None
    failed_status: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, signal: Signal) -> bool:
        """Whether a signal of the status is one of those."""
        return (
            signal.status is self.status
            and (self.reason is None or self.reason.casefold() in (signal.reason or "").casefold())
            and (self.failed_service is None or signal.failed_service == self.failed_service)
            and (self.failed_status is None or _answered(signal, self.failed_status))
            and (self.since is None or signal.received_at >= self.since)
            and (self.until is None or signal.received_at < self.until)
        )


def _answered(signal: Signal, wanted: str) -> bool:
    if wanted == NO_ANSWER:
        # Without a service it was a fault of ours, and nobody was asked.
        return signal.failed_service is not None and signal.failed_status is None
    told = str(signal.failed_status or "")
    return told[:1] == wanted[0] if wanted.endswith("xx") else told == wanted


def read_moment(text: str, now: datetime) -> datetime:
    """A moment as an operator writes it: `2h`, `30m`, `7d` ago, or ISO 8601, which is UTC unless it says otherwise.

    Raises ValueError for anything else.
    """
    ago = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip())
    try:
        if ago:
            return now - timedelta(**{_AGO[ago[2]]: int(ago[1])})
        return in_utc(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no moment; write 2h, 7d or 2026-11-24T10:00") from None


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC, which is what one without a zone is taken to be in."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


async def select_page(
    record: Record, selection: Selection, *, after: int, most: int
) -> tuple[list[Signal], int | None]:
    """The next signals that match, oldest first, at most `most`, and the row to go on after; None at the end.

    May answer none of them and still not be at the end: it looks at 5,000 signals at most.
    """
    found: list[Signal] = []
    for _ in range(MOST_LOOKED_AT // PAGE):
        async with record.read() as connection:
            page = await signals_with_status(connection, selection.status, after=after, limit=PAGE)
        for signal in page:
            after = signal.seq
            if selection.matches(signal):
                found.append(signal)
                if len(found) == most:
                    return found, after
        if len(page) < PAGE:
            return found, None
    return found, after
