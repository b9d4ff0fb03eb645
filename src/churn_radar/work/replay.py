"""Replay: start the work on stored signals again. Idempotent: replaying twice does what replaying once does.

What it means depends on where the signal stands:

    received, waiting    attempted now instead of when due
    researching          nothing to do: it is under way
    dead                 taken up where it failed: research when triage is done, else triage
    skipped              triaged again, by today's attributes and rules
    quarantined          read again by this release; understood, it becomes a signal like any other
    briefed, joined      sinks that gave up are tried again; with `force`, researched anew
    joined, no brief yet whatever this table says of the signal whose brief it shares

With `force` the cool-down is set aside too, wherever triage is still to come.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.errors import NotUnderstood
from churn_radar.intake.events import ChurnEvent, may_be_signal, to_arrival, understand
from churn_radar.intake.payload import decode, read_event, read_name
from churn_radar.research.budget import WAITS_FOR_BUDGET
from churn_radar.store.arrivals import arrival_values
from churn_radar.store.deliveries import revive_deliveries
from churn_radar.store.quarantine import forget_body
from churn_radar.store.record import Record
from churn_radar.store.signals import Signal, advance, load_signal, quarantined_body
from churn_radar.store.tables import Status, signals
from churn_radar.work.engine import Step, Task

log = structlog.get_logger(__name__)

_ALIVE: dict[str, Any] = {"failed_service": None, "failed_status": None}
NOT_KEPT = "its body is no longer kept"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did: the status it leads to, in words, and the work to start."""

    status: Status
    effect: str
    tasks: tuple[Task, ...] = ()


# In one transaction; between two of them the door commits. Bodies are parsed inside of it, so fewer of those.
AT_ONCE, BODIES_AT_ONCE = 50, 10


class _OnlyLooked(Exception):
    """No failure: takes a rehearsal back before it is committed."""

    def __init__(self, replayed: list[Replayed]) -> None:
        super().__init__()
        self.replayed = replayed


async def replay_all(
    record: Record,
    chosen: Sequence[Signal],
    *,
    alert_events: Collection[str],
    now: datetime,
    force: bool = False,
    dry_run: bool = False,
) -> list[Replayed]:
    """Replay several signals; returns what each replay did, in order. The caller starts the tasks.

    With `dry_run` the very same is done and taken back before it is committed, so what is told is what would be done.
    Raises RecordUnavailable; what was committed before that is replayed.
    """
    done: list[Replayed] = []
    size = BODIES_AT_ONCE if any(signal.kind is None for signal in chosen) else AT_ONCE
    for start in range(0, len(chosen), size):

        async def piece(connection: AsyncConnection, start: int = start) -> list[Replayed]:
            replayed = [
                await replay(connection, signal, alert_events=alert_events, now=now, force=force)
                for signal in chosen[start : start + size]
            ]
            if dry_run:
                raise _OnlyLooked(replayed)
            return replayed

        try:
            done += await record.write(piece)
        except _OnlyLooked as rehearsal:
            done += rehearsal.replayed
    return done


async def replay(
    connection: AsyncConnection,
    signal: Signal,
    *,
    alert_events: Collection[str],
    now: datetime,
    force: bool = False,
) -> Replayed:
    """Replay one signal inside the caller's transaction; the caller starts the tasks after its commit.

    The signal is read again first: somebody else may have replayed it since the caller looked.
    """
    signal = await load_signal(connection, signal.seq, to_change=True) or signal
    match signal.status:
        case Status.RECEIVED:
            await _due_now(connection, signal, now, forced=force or signal.forced)
            return Replayed(signal.status, "triage starts now", (Task(Step.TRIAGE, signal.seq),))
        case Status.WAITING:
            await _due_now(connection, signal, now, forced=signal.forced)
            return Replayed(
                signal.status,
                "research starts as soon as its turn comes",
                (Task(Step.RESEARCH, signal.seq, signal.priority),),
            )
        case Status.RESEARCHING:
            return Replayed(signal.status, "research is under way already")
        case Status.DEAD if signal.triage is not None and signal.triage.get("persona"):
            return await _research(connection, signal, now)
        case Status.SKIPPED if signal.kind is None:
            return await _read_again(connection, signal, alert_events, now)
        case Status.DEAD | Status.SKIPPED:
            return await _triage(connection, signal, now, forced=force or signal.forced)
        case Status.JOINED | Status.BRIEFED if force:
            if signal.status is Status.BRIEFED:
                return await _research(connection, signal, now)
            return await _triage(connection, signal, now, forced=True)
        case Status.JOINED if signal.brief_seq is None and signal.joined_to is not None:
            return await _leader(connection, signal, signal.joined_to, alert_events=alert_events, now=now)
        case Status.JOINED | Status.BRIEFED:
            revived = await revive_deliveries(connection, signal.brief_seq, now) if signal.brief_seq else []
            effect = (
                f"{len(revived)} failed deliveries start again"
                if revived
                else "its brief is done; force researches anew"
            )
            return Replayed(signal.status, effect, tuple(Task(Step.DELIVER, seq) for seq in revived))
        case Status.QUARANTINED:
            return await _read_again(connection, signal, alert_events, now)


async def _due_now(connection: AsyncConnection, signal: Signal, now: datetime, *, forced: bool) -> None:
    """Let a signal that waits for its next attempt be attempted at once; its story tells that somebody asked.

    Also of one that tells it waits for the budget and has been let go: it may be put off again when its turn comes.
    """
    for_budget = (signal.reason or "").startswith(WAITS_FOR_BUDGET)
    if signal.due_at is not None or for_budget or signal.forced != forced:
        await advance(
            connection,
            signal.seq,
            expected=(signal.status,),
            to=signal.status,
            now=now,
            reason="replayed",
            attempts=signal.attempts,
            forced=forced,
        )


async def _leader(
    connection: AsyncConnection, signal: Signal, leader_seq: int, *, alert_events: Collection[str], now: datetime
) -> Replayed:
    """A signal that shares a brief which is not there yet: what is to be done is done to the one it joined."""
    leader = await load_signal(connection, leader_seq)
    if leader is None:
        return await _triage(connection, signal, now, forced=signal.forced)
    replayed = await replay(connection, leader, alert_events=alert_events, now=now)
    return replace(replayed, status=signal.status, effect=f"shares the brief of {leader.public_id}: {replayed.effect}")


async def _triage(connection: AsyncConnection, signal: Signal, now: datetime, *, forced: bool) -> Replayed:
    await advance(
        connection,
        signal.seq,
        expected=(signal.status,),
        to=Status.RECEIVED,
        now=now,
        reason="replayed",
        forced=forced,
        joined_to=None,
        brief_seq=None,
        **_ALIVE,
    )
    return Replayed(Status.RECEIVED, "triage starts again", (Task(Step.TRIAGE, signal.seq),))


async def _research(connection: AsyncConnection, signal: Signal, now: datetime) -> Replayed:
    await advance(
        connection, signal.seq, expected=(signal.status,), to=Status.WAITING, now=now, reason="replayed", **_ALIVE
    )
    return Replayed(Status.WAITING, "research starts again", (Task(Step.RESEARCH, signal.seq, signal.priority),))


async def _read_again(
    connection: AsyncConnection, signal: Signal, alert_events: Collection[str], now: datetime
) -> Replayed:
    body = await quarantined_body(connection, signal.seq)
    if body is None:
        # Dropped or exported: its reason says so, and where to.
        return Replayed(signal.status, f"{NOT_KEPT}: {signal.reason}" if signal.reason else NOT_KEPT)
    try:
        event = _understand(body, alert_events)
    except NotUnderstood as error:
        return await _still_not_understood(connection, signal, error.reason, now)
    except Exception as error:
        # A fault of ours, as at the door: one such body must not keep the others of a bulk replay waiting.
        log.exception("replay.reading_failed", signal_id=signal.signal_id)
        return await _still_not_understood(connection, signal, f"reading it failed: {type(error).__name__}", now)
    if event is None:
        return await _set_aside(connection, signal, "read again: not a churn signal", now)
    known = (await connection.execute(select(signals.c.seq).where(signals.c.event_key == event.key))).first()
    if known:
        return await _set_aside(connection, signal, "read again: a duplicate of a signal that is already here", now)
    understood = to_arrival(event, received_at=signal.received_at, source=signal.source)
    arrival = understood._replace(signal_id=signal.signal_id)
    values = arrival_values(arrival)
    for column in ("status", "reason", "updated_at"):
        values.pop(column)
    await advance(
        connection,
        signal.seq,
        expected=(signal.status,),
        to=Status.RECEIVED,
        now=now,
        reason="read again and understood",
        **values,
    )
    await forget_body(connection, signal.seq)
    return Replayed(Status.RECEIVED, "understood now; triage starts", (Task(Step.TRIAGE, signal.seq),))


async def _still_not_understood(connection: AsyncConnection, signal: Signal, reason: str, now: datetime) -> Replayed:
    await connection.execute(update(signals).where(signals.c.seq == signal.seq).values(reason=reason, updated_at=now))
    return Replayed(signal.status, f"still not understood: {reason}")


async def _set_aside(connection: AsyncConnection, signal: Signal, reason: str, now: datetime) -> Replayed:
    """A body that is understood at last, and nothing for us; said once, however often it is read again."""
    if (signal.status, signal.reason) != (Status.SKIPPED, reason):
        await advance(connection, signal.seq, expected=(signal.status,), to=Status.SKIPPED, now=now, reason=reason)
    return Replayed(Status.SKIPPED, reason)


def _understand(body: bytes, alert_events: Collection[str]) -> ChurnEvent | None:
    decoded = decode(body)
    if not may_be_signal(read_name(decoded), alert_events):
        return None
    event = understand(read_event(decoded), alert_events)
    return event if isinstance(event, ChurnEvent) else None
