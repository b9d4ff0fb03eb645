"""What a worker that fell silent left half done is put right before another one takes its place."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.signals import advance, load_signal
from churn_radar.store.tables import Status
from churn_radar.work.engine import Step
from churn_radar.work.steps import Floor

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
