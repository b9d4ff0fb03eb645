"""What a worker that fell silent left half done is put right before another one takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.deliveries import deliveries_of
from churn_radar.store.signals import Signal, advance, load_signals
from churn_radar.store.tables import DeliveryStatus, Status
from churn_radar.work.steps import Floor
from churn_radar.work.tasks import Step, Task, delay_until

REASON = "taken over from a worker that fell silent"


async def put_back(floor: Floor, step: Step, seqs: Sequence[int]) -> int:
    """Put signals whose research was begun and not ended back in the line; returns how many there were.

    Only research leaves a trace before it is done. What its call may have cost stays in the ledger as an estimate.
    Should the worker be alive after all, whichever of the two answers first gives the brief.
    """
    if step is not Step.RESEARCH:
        return 0

    async def back(connection: AsyncConnection) -> int:
        begun = [each for each in await load_signals(connection, seqs) if each.status is Status.RESEARCHING]
        return await back_in_line(connection, begun, reason=REASON, now=floor.now())

    return await floor.write(back)


async def back_in_line(connection: AsyncConnection, begun: Sequence[Signal], *, reason: str, now: datetime) -> int:
    """Let signals that stand at `researching` wait again, with the attempts they had; returns how many still did."""
    count = 0
    for signal in begun:
        count += await advance(
            connection,
            signal.seq,
            expected=(Status.RESEARCHING,),
            to=Status.WAITING,
            now=now,
            reason=reason,
            attempts=signal.attempts,
        )
    return count


async def follow_ups(floor: Floor, step: Step, seqs: Sequence[int]) -> list[Task]:
    """What these rows have led to already: a worker that fell silent after its commit may not have handed it on.

    To start it twice does no harm.
    """
    if step is Step.DELIVER:
        return []
    async with floor.record.read() as connection:
        loaded = await load_signals(connection, seqs)
        tasks = [
            Task(Step.RESEARCH, signal.seq, signal.priority, delay_until(signal.due_at, floor.now()))
            for signal in loaded
            if step is Step.TRIAGE and signal.status is Status.WAITING
        ]
        for signal in loaded:
            if step is Step.RESEARCH and signal.status is Status.BRIEFED and signal.brief_seq is not None:
                tasks += [
                    Task(Step.DELIVER, owed.seq, signal.priority, delay_until(owed.due_at, floor.now()))
                    for owed in await deliveries_of(connection, signal.brief_seq)
                    if owed.status is DeliveryStatus.PENDING
                ]
    return tasks
