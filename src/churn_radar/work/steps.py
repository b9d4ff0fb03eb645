"""What the steps share: their parts, when a signal's turn has come, and what they do when something fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar import metrics
from churn_radar.errors import GiveUp, OperatorMustAct, RecordUnavailable, UpstreamError
from churn_radar.store.customers import hold_customer_of
from churn_radar.store.due import put_off
from churn_radar.store.held import putting_off
from churn_radar.store.joined import tell_joined
from churn_radar.store.record import Record
from churn_radar.store.signals import Signal, advance
from churn_radar.store.tables import Status
from churn_radar.store.thread import T, Work
from churn_radar.work.joining import given_up
from churn_radar.work.remedy import link
from churn_radar.work.retry import OPERATOR_DELAY, Bury, TryAgain, decide
from churn_radar.work.tasks import Again, Done, Outcome, Task
from churn_radar.work.troubles import WAITS, Troubles

log = structlog.get_logger(__name__)

RECORD_RETRY = timedelta(seconds=5)
HELP_URL = "docs/what-to-do.md"


def utc_now() -> datetime:
    """The clock that everything uses unless a test brings its own."""
    return datetime.now(UTC)


EnqueueWithin = Callable[[AsyncConnection, Sequence[Task]], Awaitable[None]]


@dataclass(frozen=True)
class Floor:
    """The shop floor: what every step works with.

    `enqueue_within` adds work in the transaction of a connection; None where the engine is not in the database.
    """

    record: Record
    enqueue: Callable[[Sequence[Task]], Awaitable[None]]
    retry_delays: Sequence[timedelta]
    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    troubles: Troubles = field(default_factory=Troubles)
    help_url: str = HELP_URL
    enqueue_within: EnqueueWithin | None = None

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

    async def write_and_go_on(self, work: Work[T], next_of: Callable[[T], Sequence[Task]]) -> T:
        """As `write`, and start what follows from the result.

        On Postgres in the same transaction: a process that is killed right after the commit has handed its work on.
        In memory right after it: a start takes up what the record has.
        """
        within = self.enqueue_within
        if within is None:
            result = await self.write(work)
            await self.enqueue(next_of(result))
            return result

        async def with_jobs(connection: AsyncConnection) -> T:
            result = await work(connection)
            await within(connection, next_of(result))
            return result

        return await self.write(with_jobs)


async def not_yet(floor: Floor, signal: Signal, service: str) -> Again | None:
    """Whether a signal's turn is still to come, and when; None when its step may call `service` now."""
    return not_due(signal, floor.now()) or await held(floor, signal, service)


def not_due(signal: Signal, now: datetime) -> Again | None:
    """Whether a signal is put off, and how long.

    A job may come before its signal is due, a second one for instance that a replay made: it only waits on, so that
    each attempt is made once, and when it is due.
    """
    if signal.due_at is None or signal.due_at <= now:
        return None
    return Again(signal.due_at - now, in_record=True)


async def held(floor: Floor, signal: Signal, service: str) -> Again | None:
    """Whether a trouble keeps a signal from calling `service`, and how long; None when it may call now.

    To be asked right before the call: where a probe is due, this is it.
    """
    now = floor.now()
    hold = await floor.troubles.turn(service, now)
    if hold is None:
        return None
    waits = await _wait_for_operator(floor, signal, service, now + hold)
    return Again(hold, in_record=True) if waits else None


async def _wait_for_operator(floor: Floor, signal: Signal, service: str, due_at: datetime) -> bool:
    """Put a signal off until the next probe; False when the trouble has ended meanwhile, and nothing is to wait for.

    The trouble is looked at again inside the transaction: what is put off here is committed before the sweep that
    follows the trouble's end looks for it.
    """
    trouble = floor.troubles.of(service)
    if trouble is None:
        return False
    reason = trouble.reason

    async def wait(connection: AsyncConnection) -> bool:
        await putting_off(connection)
        if floor.troubles.of(service) is None:
            return False
        if signal.reason == reason:
            # Told already; not once more for each probe that finds nothing mended.
            await put_off(connection, [signal.seq], due_at, reason=reason)
            return True
        await advance(
            connection,
            signal.seq,
            expected=(signal.status,),
            to=signal.status,
            now=floor.now(),
            reason=reason,
            attempts=signal.attempts,
            due_at=due_at,
        )
        return True

    return await floor.write(wait)


def describe(error: Exception) -> str:
    """One line for the record and the API; errors of ours hold no personal data, foreign ones may."""
    if isinstance(error, UpstreamError):
        status = f" ({error.status})" if error.status else ""
        return f"{error.service}{status}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{type(error).__name__}: {os.strerror(error.errno)}"
    return f"unexpected {type(error).__name__}"


async def _nothing(connection: AsyncConnection) -> bool:
    return True


async def fail(
    floor: Floor, signal: Signal, error: Exception, *, back_to: Status, first: Work[bool] = _nothing
) -> Outcome:
    """Write a failed attempt down: back in the line with a due time, or a dead letter with its reason.

    `first` is done in the same transaction; where it answers False the signal is somebody else's now, and left alone.
    """
    now = floor.now()
    service, answered = (error.service, error.status) if isinstance(error, UpstreamError) else (None, None)
    operator_delay, reason = OPERATOR_DELAY, describe(error)
    if isinstance(error, OperatorMustAct):
        operator_delay = floor.troubles.report(error.service, str(error), now, error.status)
        reason = f"{WAITS}{error}"
    elif service is None:
        # A fault of ours, or an answer that nobody thought of: the trace is for the developers.
        log.error("work.step_failed", signal_id=signal.signal_id, exc_info=error)
    decision = decide(error, attempts=signal.attempts, delays=floor.retry_delays, operator_delay=operator_delay)
    if isinstance(decision, Bury) and not isinstance(error, GiveUp):
        reason = f"gave up after {decision.attempt} attempts: {reason}"

    async def settle(connection: AsyncConnection) -> tuple[bool, timedelta | None]:
        if isinstance(error, OperatorMustAct):
            await putting_off(connection)
        if not await first(connection):
            return False, None
        delay = decision.delay if isinstance(decision, TryAgain) else None
        if isinstance(error, OperatorMustAct) and floor.troubles.of(error.service) is None:
            delay = timedelta()  # it ended while this waited for the record; see _wait_for_operator
        if delay is None:
            await hold_customer_of(connection, signal.seq)  # nobody joins it from here on unheard
        died = {} if delay is not None else {"failed_service": service, "failed_status": answered}
        moved = await advance(
            connection,
            signal.seq,
            expected=(Status.RECEIVED, Status.WAITING, Status.RESEARCHING),
            to=Status.DEAD if delay is None else back_to,
            now=now,
            reason=reason,
            attempts=decision.attempt,
            due_at=None if delay is None else now + delay,
            **died,
        )
        if moved and delay is None:
            await tell_joined(connection, signal.seq, given_up(signal.public_id), now)
        return moved, delay

    moved, delay = await floor.write(settle)
    if not moved:
        return Done()
    dead = {"failed_status": answered, "help": link(floor.help_url, service, answered)} if delay is None else {}
    log.warning(
        "signal.attempt_failed",
        signal_id=signal.signal_id,
        event_id=signal.event_id,
        status=(Status.DEAD if delay is None else back_to).value,
        attempt=decision.attempt,
        cause=describe(error),
        **dead,
    )
    if delay is not None:
        return Again(delay, in_record=True)
    metrics.signal(Status.DEAD.value)
    return Done()
