"""Dead deliveries, owed again: by their numbers, or page by page those of one sink or of all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.deliveries import revive
from churn_radar.store.record import Record
from churn_radar.store.sinks import count_dead, dead_numbers
from churn_radar.work.tasks import Step, Task


@dataclass(frozen=True, slots=True)
class Redelivered:
    """How many start again, and the row after which to go on; None at the end."""

    count: int
    further: int | None = None


async def redeliver(
    record: Record,
    *,
    ids: Sequence[int] | None,
    sink: str | None,
    before: int | None,
    limit: int,
    dry_run: bool,
    now: datetime,
    committed: Callable[[Sequence[Task]], Awaitable[None]],
) -> Redelivered:
    """Owe dead deliveries again; of `ids`, those that are dead. Raises RecordUnavailable.

    `committed` starts the work. Doing it twice does what doing it once does.
    """

    async def work(connection: AsyncConnection) -> tuple[list[int], int | None]:
        if ids is not None:
            return await revive(connection, ids, now), None
        page = await dead_numbers(connection, sink=sink, before=before, limit=limit)
        return await revive(connection, page, now), page[-1] if len(page) == limit else None

    if dry_run:
        async with record.read() as connection:
            return Redelivered(await count_dead(connection, ids=ids, sink=sink))
    revived, further = await record.write(work)
    await committed([Task(Step.DELIVER, seq) for seq in revived])
    return Redelivered(len(revived), further)
