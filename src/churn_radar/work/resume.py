"""When a trouble ends, what waited for its end goes on at once, not only when it would have been due."""

from __future__ import annotations

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.customerio.client import SERVICE as CUSTOMERIO
from churn_radar.research.mave import SERVICE as MAVERA
from churn_radar.store.due import Place
from churn_radar.store.held import let_go
from churn_radar.store.tables import Status
from churn_radar.work.steps import Floor
from churn_radar.work.tasks import Step, Task
from churn_radar.work.troubles import WAITS

log = structlog.get_logger(__name__)

PAGE = 500

_WORK_OF = {CUSTOMERIO: (Status.RECEIVED, Step.TRIAGE), MAVERA: (Status.WAITING, Step.RESEARCH)}
SERVICES = tuple(_WORK_OF)


async def resume(floor: Floor, service: str) -> int:
    """Let everything go that waited for the operator to mend `service`; returns how much that was.

    Page by page, each read and changed in one transaction: whatever was put off before the trouble ended is found.
    Stops when the trouble is back.
    """
    status, step = _WORK_OF[service]
    count = 0
    after: Place | None = None
    while floor.troubles.of(service) is None:

        async def page(
            connection: AsyncConnection, after: Place | None = after
        ) -> tuple[list[tuple[int, int]], Place | None]:
            return await let_go(connection, status, reason_prefix=WAITS, after=after, limit=PAGE, now=floor.now())

        held, further = await floor.write(page)
        await floor.enqueue([Task(step, seq, priority) for seq, priority in held])
        count += len(held)
        if further is None:
            break
        after = further
    if count:
        log.info("work.resumed", service=service, signals=count)
    return count
