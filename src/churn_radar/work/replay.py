"""Replay: start the work on stored signals again. Idempotent: replaying twice does what replaying once does.

What it means depends on where the signal stands:

    received, waiting    attempted now instead of when due
    researching          nothing to do: it is under way
    dead, triage failed  triaged again
    dead in research     joins its customer's brief that is under way, or from within the cool-down, with those who
                         had joined it; else researched, and the next one that is replayed joins it
    skipped              triaged again, by today's attributes and rules
    quarantined          read again by this release; understood, it becomes a signal like any other
    briefed, joined      sinks that gave up are tried again; with `force`, researched anew
    joined, no brief yet whatever this table says of the signal whose brief it shares, unless that one waits for the
                         budget: whoever wants to spend on it replays that one

With `force` the cool-down is set aside, and nobody is joined.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.counts import counted
from churn_radar.research.budget import WAITS_FOR_BUDGET
from churn_radar.store.customers import hold_customer_of
from churn_radar.store.deliveries import revive_deliveries
from churn_radar.store.joined import hand_over, tell_joined
from churn_radar.store.quarantine import load_bodies, take_out
from churn_radar.store.record import Record
from churn_radar.store.signals import Signal, advance, load_signal
from churn_radar.store.tables import Status
from churn_radar.work.forget import TAKEN_OUT
from churn_radar.work.forgotten import Forgotten
from churn_radar.work.joinable import joinable
from churn_radar.work.joining import Joined, JoinRule, under_way
from churn_radar.work.reading import read_again
from churn_radar.work.tasks import Step, Task

_ALIVE: dict[str, Any] = {"failed_service": None, "failed_status": None}


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


async def _nothing(done: Sequence[Replayed]) -> None:
    return


async def replay_all(
    record: Record,
    chosen: Sequence[Signal],
    *,
    alert_events: Collection[str],
    rule: JoinRule,
    now: datetime,
    force: bool = False,
    dry_run: bool = False,
    forgotten: Forgotten | None = None,
    committed: Callable[[Sequence[Replayed]], Awaitable[None]] = _nothing,
) -> list[Replayed]:
    """Replay several signals; returns what each replay did, in order.

    `committed` hears of what has been committed, piece by piece, to start its tasks. With `dry_run` the very same is
    done and taken back before it is committed, so what is told is what would be done; only that pieces know nothing of
    each other then, so signals of one customer that are far apart are not told to join. A body that names somebody of
    the `forgotten` is taken out and not read.
    Raises RecordUnavailable; what was committed before that is replayed.
    """
    done: list[Replayed] = []
    unread = [signal.seq for signal in chosen if signal.kind is None]
    size = BODIES_AT_ONCE if unread else AT_ONCE
    if forgotten is not None and unread:
        await forgotten.hear_now()
    for start in range(0, len(chosen), size):

        async def piece(connection: AsyncConnection, start: int = start) -> list[Replayed]:
            some = chosen[start : start + size]
            if forgotten is not None:
                await _take_out_forgotten(connection, forgotten, some, now)
            replayed = [
                await replay(connection, signal, alert_events=alert_events, rule=rule, now=now, force=force)
                for signal in some
            ]
            if dry_run:
                raise _OnlyLooked(replayed)
            return replayed

        try:
            replayed = await record.write(piece)
        except _OnlyLooked as rehearsal:
            done += rehearsal.replayed
        else:
            await committed(replayed)
            done += replayed
    return done


async def _take_out_forgotten(
    connection: AsyncConnection, forgotten: Forgotten, chosen: Sequence[Signal], now: datetime
) -> None:
    """Delete the bodies that name somebody who was forgotten; what is left of their signals tells so."""
    unread = [signal.seq for signal in chosen if signal.kind is None]
    named = [body.seq for body in await load_bodies(connection, unread) if forgotten.names_one(body.body)]
    await take_out(connection, named, reason=TAKEN_OUT, now=now)


async def replay(
    connection: AsyncConnection,
    signal: Signal,
    *,
    alert_events: Collection[str],
    rule: JoinRule,
    now: datetime,
    force: bool = False,
) -> Replayed:
    """Replay one signal inside the caller's transaction; the caller starts the tasks after its commit.

    The signal is read again first: somebody else may have replayed it since the caller looked, or have put before it
    what it joins.
    """
    await hold_customer_of(connection, signal.seq)  # nobody else decides meanwhile who joins whom
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
            joined = None if force else await _join(connection, signal, rule, now)
            if joined is None:
                return await _research(connection, signal, now, forced=force or signal.forced)
            effect = joined.reason if joined.brief_seq else "joins its customer's research, which is under way"
            # Done to it at once is what a second replay would do to a joined one.
            shared = await replay(connection, signal, alert_events=alert_events, rule=rule, now=now)
            return replace(shared, effect=effect)
        case Status.SKIPPED if signal.kind is None:
            return await _read_again(connection, signal, alert_events, now)
        case Status.DEAD | Status.SKIPPED:
            return await _triage(connection, signal, now, forced=force or signal.forced)
        case Status.JOINED | Status.BRIEFED if force:
            if signal.status is Status.BRIEFED:
                return await _research(connection, signal, now, forced=True)
            return await _triage(connection, signal, now, forced=True)
        case Status.JOINED if signal.brief_seq is None and signal.joined_to is not None:
            return await _leader(connection, signal, signal.joined_to, alert_events=alert_events, rule=rule, now=now)
        case Status.JOINED | Status.BRIEFED:
            revived = await revive_deliveries(connection, signal.brief_seq, now) if signal.brief_seq else []
            deliveries = counted(len(revived), "failed delivery", "failed deliveries")
            again = f"{deliveries} {'starts' if len(revived) == 1 else 'start'} again"
            effect = again if revived else "its brief is done; force researches anew"
            return Replayed(signal.status, effect, tuple(Task(Step.DELIVER, seq) for seq in revived))
        case Status.QUARANTINED:
            return await _read_again(connection, signal, alert_events, now)


async def _due_now(connection: AsyncConnection, signal: Signal, now: datetime, *, forced: bool) -> None:
    """Let a signal that waits for its next attempt be attempted at once; its story tells that somebody asked.

    Also of one that tells it waits for the budget and has been let go: it may be put off again when its turn comes.
    """
    if signal.due_at is not None or _for_budget(signal) or signal.forced != forced:
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


def _for_budget(signal: Signal) -> bool:
    return (signal.reason or "").startswith(WAITS_FOR_BUDGET)


async def _leader(
    connection: AsyncConnection,
    signal: Signal,
    leader_seq: int,
    *,
    alert_events: Collection[str],
    rule: JoinRule,
    now: datetime,
) -> Replayed:
    """A signal that shares a brief which is not there yet: what is to be done is done to the one it joined."""
    leader = await load_signal(connection, leader_seq)
    if leader is None:
        return await _triage(connection, signal, now, forced=signal.forced)
    shares = f"shares the brief of {leader.public_id}"
    if leader.status is Status.WAITING and _for_budget(leader):
        # To spend beyond the budget is decided about the signal that waits for it, never by the way.
        return Replayed(signal.status, f"{shares}, which waits for the budget; replay that one to spend on it")
    replayed = await replay(connection, leader, alert_events=alert_events, rule=rule, now=now)
    return replace(replayed, status=signal.status, effect=f"{shares}: {replayed.effect}")


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


async def _join(connection: AsyncConnection, signal: Signal, rule: JoinRule, now: datetime) -> Joined | None:
    """Let a dead letter share what its customer has got since, or is about to get; None where there is nothing.

    Those that had joined it while it was under way go along.
    """
    if signal.customer_seq is None:
        return None
    joining = await joinable(connection, [signal.customer_seq], rule, now)
    joined = joining.for_signal(signal, signal.customer_seq)
    if joined is None:
        return None
    to: dict[str, Any] = {"joined_to": joined.joined_to, "brief_seq": joined.brief_seq}
    await advance(
        connection,
        signal.seq,
        expected=(signal.status,),
        to=Status.JOINED,
        now=now,
        reason=joined.reason,
        **to,
        **_ALIVE,
    )
    await hand_over(connection, signal.seq, reason=joined.reason, now=now, **to)
    return joined


async def _research(connection: AsyncConnection, signal: Signal, now: datetime, *, forced: bool) -> Replayed:
    await advance(
        connection,
        signal.seq,
        expected=(signal.status,),
        to=Status.WAITING,
        now=now,
        reason="replayed",
        forced=forced,
        **_ALIVE,
    )
    await tell_joined(connection, signal.seq, under_way(signal.public_id), now)
    return Replayed(Status.WAITING, "research starts again", (Task(Step.RESEARCH, signal.seq, signal.priority),))


async def _read_again(
    connection: AsyncConnection, signal: Signal, alert_events: Collection[str], now: datetime
) -> Replayed:
    status, effect = await read_again(connection, signal, alert_events, now)
    return Replayed(status, effect, (Task(Step.TRIAGE, signal.seq),) if status is Status.RECEIVED else ())
