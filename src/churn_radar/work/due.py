"""What becomes of work whose time has come: it is let go, unless it waits for a trouble that still stands.

The record alone says until when work is put off. A trouble may hold thousands of signals, all due at its next probe,
of which one is let through: only a few of them are let go then, and the others are put off to the probe after it
without having been looked at one by one. When the trouble ends, `churn_radar.work.resume` lets all of them go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.store.deliveries import let_go_due, next_delivery_due
from churn_radar.store.due import Due, due_signals, let_go, next_due, put_off
from churn_radar.store.held import putting_off
from churn_radar.store.tables import Status
from churn_radar.work.tasks import Step, Task
from churn_radar.work.troubles import Trouble, Troubles

# Of a page, when a probe is due. The first may turn out not to call, for want of budget; these are enough, since the
# next page has its own.
PROBES = 3


class LetGo(Protocol):
    """Lets go what is due, at most so many of it, and returns what is fresh work now."""

    def __call__(self, connection: AsyncConnection, *, now: datetime, limit: int) -> Awaitable[list[Task]]:
        """Inside the caller's transaction."""
        ...


@dataclass(frozen=True, slots=True)
class PutOff:
    """How a step's work that is put off is found: when the next of it is due, and how it is let go."""

    next_due: Callable[[AsyncConnection], Awaitable[datetime | None]]
    let_go: LetGo


def signals_put_off(status: Status, step: Step, service: str, troubles: Troubles) -> PutOff:
    """The signals that wait at `status` for a step that calls `service`."""

    async def first(connection: AsyncConnection) -> datetime | None:
        return await next_due(connection, status)

    async def page(connection: AsyncConnection, *, now: datetime, limit: int) -> list[Task]:
        await putting_off(connection)
        due = await due_signals(connection, status, now=now, limit=limit)
        # Looked at inside the transaction: what is put off here is committed before the sweep that follows the
        # trouble's end looks for it.
        trouble = troubles.of(service)
        going = due if trouble is None else to_let_go(due, trouble, now)
        await let_go(connection, [each.seq for each in going])
        if trouble is not None and len(going) < len(due):
            gone = {each.seq for each in going}
            until = trouble.next_probe_at if now < trouble.next_probe_at else troubles.probe_after(service, now)
            staying = [each.seq for each in due if each.seq not in gone]
            await put_off(connection, staying, until or now, reason=trouble.reason)
        return [Task(step, each.seq, each.priority) for each in going]

    return PutOff(first, page)


def to_let_go(due: Sequence[Due], trouble: Trouble, now: datetime) -> list[Due]:
    """Which of the due signals go on although their service is in trouble.

    Those that do not wait for its end go on: they have something to find out, or to tell. Of those that do, a few go
    when the next probe is due, the dearest; none before that.
    """
    waiting = [each for each in due if each.reason == trouble.reason]
    others = [each for each in due if each.reason != trouble.reason]
    if now < trouble.next_probe_at:
        return others
    return others + sorted(waiting, key=lambda each: -each.priority)[:PROBES]


def deliveries_put_off() -> PutOff:
    """The deliveries that wait for their next attempt."""

    async def page(connection: AsyncConnection, *, now: datetime, limit: int) -> list[Task]:
        return [Task(Step.DELIVER, seq) for seq in await let_go_due(connection, now=now, limit=limit)]

    return PutOff(next_delivery_due, page)
