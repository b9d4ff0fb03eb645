"""What a worker that fell silent left half done is put right before another one takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.deliveries import deliveries_of
from churn_radar.store.signals import advance, load_signal, load_signals
from churn_radar.store.tables import DeliveryStatus, Status
from churn_radar.work.steps import Floor
from churn_radar.work.tasks import Step, Task

REASON = "taken over from a worker that fell silent"


async def put_back(floor: Floor, step: Step, seqs: Sequence[int]) -> int:
    """Put signals whose research was begun and not ended back in the line; returns how many there were.

    Only research leaves a trace before it is done. What its call may have cost stays in the ledger as an estimate.
    Should the worker be alive after all, whichever of the two answers first gives the brief.
    """
    if step is not Step.RESEARCH:
        return 0

    async def back(connection: AsyncConnection) -> int:
        count = 0
        for seq in sorted(seqs):
            signal = await load_signal(connection, seq)
            if signal is not None and signal.status is Status.RESEARCHING:
                count += await advance(
                    connection,
                    seq,
                    expected=(Status.RESEARCHING,),
                    to=Status.WAITING,
                    now=floor.now(),
                    reason=REASON,
                    attempts=signal.attempts,
                )
        return count

    return await floor.write(back)


async def follow_ups(floor: Floor, step: Step, seqs: Sequence[int]) -> list[Task]:
    """What these rows have led to already: a worker that fell silent after its commit may not have handed it on.

    To start it twice does no harm.
    """
    if step is Step.DELIVER:
        return []
    async with floor.record.read() as connection:
        loaded = await load_signals(connection, seqs)
        tasks = [
            _later(Step.RESEARCH, signal.seq, signal.priority, signal.due_at, floor.now())
            for signal in loaded
            if step is Step.TRIAGE and signal.status is Status.WAITING
        ]
        for signal in loaded:
            if step is Step.RESEARCH and signal.status is Status.BRIEFED and signal.brief_seq is not None:
                tasks += [
                    _later(Step.DELIVER, owed.seq, signal.priority, owed.due_at, floor.now())
                    for owed in await deliveries_of(connection, signal.brief_seq)
                    if owed.status is DeliveryStatus.PENDING
                ]
    return tasks


def _later(step: Step, seq: int, priority: int, due_at: datetime | None, now: datetime) -> Task:
    return Task(step, seq, priority, None if due_at is None or due_at <= now else due_at - now)
