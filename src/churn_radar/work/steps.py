"""What the steps share: their parts, and what they do when something fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from churn_radar import metrics
from churn_radar.errors import GiveUp, OperatorMustAct, UpstreamError
from churn_radar.store.record import Record
from churn_radar.store.signals import Signal, advance
from churn_radar.store.tables import Status
from churn_radar.work.engine import Again, Done, Outcome, Task
from churn_radar.work.retry import TryAgain, decide

log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """The clock that everything uses unless a test brings its own."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Floor:
    """The shop floor: what every step works with."""

    record: Record
    enqueue: Callable[[Sequence[Task]], Awaitable[None]]
    retry_delays: Sequence[timedelta]
    now: Callable[[], datetime] = utc_now
    troubles: Troubles = field(default_factory=lambda: Troubles())


class Troubles:
    """What only the operator can mend, by upstream service; shown by readiness until a call succeeds."""

    def __init__(self) -> None:
        self._by_service: dict[str, str] = {}

    def report(self, service: str, message: str) -> None:
        """Remember a trouble, and say it loudly the first time."""
        if self._by_service.get(service) != message:
            log.error("upstream.operator_must_act", service=service, cause=message)
        self._by_service[service] = message

    def clear(self, service: str) -> None:
        """A call went through: whatever was wrong has been mended."""
        if self._by_service.pop(service, None) is not None:
            log.info("upstream.recovered", service=service)

    @property
    def current(self) -> dict[str, str]:
        """The troubles that stand, by service."""
        return dict(self._by_service)


def describe(error: Exception) -> str:
    """One line for the record and the API; errors of ours hold no personal data."""
    if isinstance(error, UpstreamError):
        status = f" ({error.status})" if error.status else ""
        return f"{error.service}{status}: {error}"
    return f"unexpected {type(error).__name__}"


async def fail(floor: Floor, signal: Signal, error: UpstreamError, *, back_to: Status) -> Outcome:
    """Write a failed attempt down: back in the line with a due time, or a dead letter with its reason."""
    if isinstance(error, OperatorMustAct):
        floor.troubles.report(error.service, str(error))
    decision = decide(error, attempts=signal.attempts, delays=floor.retry_delays)
    now = floor.now()
    retrying = isinstance(decision, TryAgain)
    to = back_to if retrying else Status.DEAD
    due_at = now + decision.delay if isinstance(decision, TryAgain) else None
    reason = (
        describe(error)
        if retrying or isinstance(error, GiveUp)
        else f"gave up after {decision.attempt} attempts: {describe(error)}"
    )
    await floor.record.write(
        lambda connection: advance(
            connection,
            signal.seq,
            expected=(Status.RECEIVED, Status.WAITING, Status.RESEARCHING),
            to=to,
            now=now,
            reason=reason,
            attempts=decision.attempt,
            due_at=due_at,
        )
    )
    log.warning(
        "signal.attempt_failed",
        signal_id=signal.signal_id,
        event_id=signal.event_id,
        status=to.value,
        attempt=decision.attempt,
        cause=describe(error),
    )
    if isinstance(decision, TryAgain):
        return Again(decision.delay)
    metrics.signal(Status.DEAD.value)
    return Done()
