"""What the steps share: their parts, when a signal's turn has come, and what they do when something fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import GiveUp, OperatorMustAct, RecordUnavailable, UpstreamError
from churn_radar.store.record import Record
from churn_radar.store.signals import Signal, advance, explain_to_joined
from churn_radar.store.tables import Status
from churn_radar.store.thread import T, Work
from churn_radar.work.engine import Again, Done, Outcome, Task
from churn_radar.work.retry import OPERATOR_DELAY, TryAgain, decide

log = structlog.get_logger(__name__)

RECORD_RETRY = timedelta(seconds=5)


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
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    troubles: Troubles = field(default_factory=lambda: Troubles())

    async def write(self, work: Work[T]) -> T:
        """Write what a step has found out, as soon as the record can commit.

        Waits where the door answers 503: what is to be written was paid for, with a call to an upstream.
        """
        while True:
            try:
                return await self.record.write(work)
            except RecordUnavailable as error:
                log.warning("work.waits_for_the_record", cause=str(error))
                await self.sleep(RECORD_RETRY.total_seconds())


@dataclass(frozen=True, slots=True)
class _Trouble:
    message: str
    probe_at: datetime


class Troubles:
    """What only the operator can mend, by upstream service; shown by readiness until a call succeeds.

    Mavera documents 401 and 402 as not worth a retry. So while a trouble stands one call in five minutes finds
    out whether it is mended, and all other work for that service waits.
    """

    def __init__(self) -> None:
        self._by_service: dict[str, _Trouble] = {}

    def report(self, service: str, message: str, now: datetime) -> None:
        """Remember a trouble, and say it loudly the first time."""
        standing = self._by_service.get(service)
        if standing is None or standing.message != message:
            log.error("upstream.operator_must_act", service=service, cause=message)
        self._by_service[service] = _Trouble(message, now + OPERATOR_DELAY)

    def clear(self, service: str) -> None:
        """A call went through: whatever was wrong has been mended."""
        if self._by_service.pop(service, None) is not None:
            log.info("upstream.recovered", service=service)

    def hold(self, service: str, now: datetime) -> timedelta | None:
        """How long to leave a service alone; None when it may be called, as by every so many minutes' one probe."""
        trouble = self._by_service.get(service)
        if trouble is None:
            return None
        if now < trouble.probe_at:
            return trouble.probe_at - now
        self._by_service[service] = replace(trouble, probe_at=now + OPERATOR_DELAY)
        return None

    def probe_now(self, now: datetime) -> None:
        """Let the next call through at once: somebody who replays by hand has mended something, most likely."""
        self._by_service = {service: replace(t, probe_at=now) for service, t in self._by_service.items()}

    @property
    def current(self) -> dict[str, str]:
        """The troubles that stand, by service."""
        return {service: trouble.message for service, trouble in self._by_service.items()}


async def not_yet(floor: Floor, signal: Signal, service: str) -> Again | None:
    """Whether a signal's turn is still to come, and when; None when its step may call `service` now.

    A replay leaves a second job for the same signal behind, so a job that comes before its signal is due only
    waits on: each attempt is made once, and when it is due.
    """
    now = floor.now()
    if signal.due_at is not None and signal.due_at > now:
        return Again(signal.due_at - now)
    hold = floor.troubles.hold(service, now)
    if hold is None:
        return None
    reason = f"waits for the operator: {floor.troubles.current[service]}"
    if signal.reason != reason:
        await floor.write(
            lambda connection: advance(
                connection,
                signal.seq,
                expected=(signal.status,),
                to=signal.status,
                now=now,
                reason=reason,
                attempts=signal.attempts,
                due_at=now + hold,
            )
        )
    return Again(hold)


def describe(error: Exception) -> str:
    """One line for the record and the API; errors of ours hold no personal data, foreign ones may."""
    if isinstance(error, UpstreamError):
        status = f" ({error.status})" if error.status else ""
        return f"{error.service}{status}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{type(error).__name__}: {os.strerror(error.errno)}"
    return f"unexpected {type(error).__name__}"


async def fail(floor: Floor, signal: Signal, error: Exception, *, back_to: Status) -> Outcome:
    """Write a failed attempt down: back in the line with a due time, or a dead letter with its reason."""
    now = floor.now()
    if isinstance(error, OperatorMustAct):
        floor.troubles.report(error.service, str(error), now)
    elif not isinstance(error, UpstreamError):
        # A fault of ours, or an answer that nobody thought of: the trace is for the developers.
        log.error("work.step_failed", signal_id=signal.signal_id, exc_info=error)
    decision = decide(error, attempts=signal.attempts, delays=floor.retry_delays)
    retrying = isinstance(decision, TryAgain)
    to = back_to if retrying else Status.DEAD
    due_at = now + decision.delay if isinstance(decision, TryAgain) else None
    reason = (
        describe(error)
        if retrying or isinstance(error, GiveUp)
        else f"gave up after {decision.attempt} attempts: {describe(error)}"
    )

    async def settle(connection: AsyncConnection) -> None:
        await advance(
            connection,
            signal.seq,
            expected=(Status.RECEIVED, Status.WAITING, Status.RESEARCHING),
            to=to,
            now=now,
            reason=reason,
            attempts=decision.attempt,
            due_at=due_at,
        )
        if to is Status.DEAD:
            await explain_to_joined(connection, signal, now)

    await floor.write(settle)
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
