"""Every exception of this package, as one tree, ordered by what the reader can do about it.

    ChurnRadarError
    ├── SettingsError           the operator mends a setting, then starts again        (exit code 2)
    ├── StartError              the operator mends the machine: port, folder, file     (exit code 1)
    │   ├── RecordLocked        another process owns the SQLite file
    │   └── RecordUnusable      damaged, unwritable, newer than this release
    │       └── RecordAway      its server does not answer now: start it, or wait for it
    ├── RecordUnavailable       the record cannot commit right now: answer 503, try again
    │   ├── NotStorable         it can, but never this row: keep the raw body instead
    │   └── BufferUnavailable   nor can the buffer in front of it hold anything
    │       └── TooLargeToBuffer    this one never fits: straight into the record with it
    ├── NotUnderstood           genuine, but of no known shape: quarantine it
    ├── Declined                (churn_radar.sinks.protocol) a sink has no use for a brief: skip its delivery
    └── UpstreamError           Customer.io, Mavera or a sink said no
        ├── RetryLater          waiting may help (429, 5xx, timeouts, an unreadable answer)
        ├── GiveUp              the same request will never work (400, 403, 404 of a route)
        │   └── Gone            nor will any other there (410 of a sink): none until a person says so
        └── OperatorMustAct     401 or 402: keep the work, stop calling, say so loudly

Messages never hold secrets, mail addresses, names, prompts or raw bodies: they end up in logs and in the
record, and a retention team's log store is not the place for personal data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta


class ChurnRadarError(Exception):
    """Base of everything this package raises on purpose."""


class SettingsError(ChurnRadarError):
    """One or more settings are missing or wrong; `problems` holds one printable line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@contextmanager
def noted(problems: list[str]) -> Iterator[None]:
    """Add what SettingsError says in the block to `problems`: who mends settings wants to hear of all that is wrong."""
    try:
        yield
    except SettingsError as error:
        problems += error.problems


class StartError(ChurnRadarError):
    """The service cannot start on this machine as it is; the message says what to do."""


class RecordLocked(StartError):
    """Another process holds the exclusive lock on the SQLite file."""


class RecordUnusable(StartError):
    """The record cannot be opened: damaged, unwritable, or written by a newer release."""


class RecordAway(RecordUnusable):
    """The database of the record is not there now; by all that is known it will be again."""


class RecordUnavailable(ChurnRadarError):
    """The record could not commit (disk full, locked, read-only, too slow); nothing was acknowledged."""


class NotStorable(RecordUnavailable):
    """The record commits, but its database refuses this one row, and would again."""


class BufferUnavailable(RecordUnavailable):
    """The buffer could not hold an event durably (away, full, too slow); nothing was acknowledged."""


class TooLargeToBuffer(BufferUnavailable):
    """An event larger than one message of the buffer, even compressed."""


class NotUnderstood(ChurnRadarError):
    """A genuine body that fits no known shape. `reason` is safe to log and to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UpstreamError(ChurnRadarError):
    """An upstream call failed.

    `service` is `customerio`, `mavera` or a kind of sink; `status` is the HTTP status, or None when no answer came.
    What it cost all the same: `credits_lost`, as answers told, and `unanswered`, the calls that may have been charged
    without telling.
    """

    def __init__(self, service: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.service = service
        self.status = status
        self.credits_lost = 0
        self.unanswered = 0


class RetryLater(UpstreamError):
    """Waiting may help. `retry_after` is what the upstream asked for, when it said."""

    def __init__(
        self,
        service: str,
        message: str,
        *,
        status: int | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(service, message, status=status)
        self.retry_after = retry_after


class GiveUp(UpstreamError):
    """The same request will never succeed; the signal becomes a dead letter."""


class Gone(GiveUp):
    """Whoever received says that nothing more is to be sent; a person has to say so before anything is."""


class OperatorMustAct(UpstreamError):
    """The key is wrong or the credits are spent: no retry helps until a person mends it."""
