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


async def resume_at_start(floor: Floor) -> None:
    """What waited for the operator goes on: whoever mends a key in the settings starts the service again.

    All of it where no trouble is known. Where replicas share one that stands, a single piece of work goes ahead, and
    what comes of it decides about the rest.
    """
    to_probe = await floor.troubles.to_probe_at_start()
    for service in SERVICES:
        if floor.troubles.of(service) is None:
            await resume(floor, service)
        elif service in to_probe:
            await _send_ahead(floor, service)


async def resume(floor: Floor, service: str) -> int:
    """Let everything go that waited for the operator to mend `service`; returns how much that was.

    Page by page, each read and changed in one transaction: whatever was put off before the trouble ended is found.
    Stops when the trouble is back.
    """
    count = 0
    after: Place | None = None
    while floor.troubles.of(service) is None:
        gone, after = await _let_go(floor, service, after)
        count += gone
        if after is None:
            break
    if count:
        log.info("work.resumed", service=service, signals=count)
    return count


async def _send_ahead(floor: Floor, service: str) -> None:
    after: Place | None = None
    while True:
        gone, after = await _let_go(floor, service, after, most=1)
        if gone or after is None:
            return


async def _let_go(floor: Floor, service: str, after: Place | None, most: int | None = None) -> tuple[int, Place | None]:
    """One page: how much of it goes on, and where the next one begins."""
    status, step = _WORK_OF[service]

    async def page(connection: AsyncConnection) -> tuple[list[tuple[int, int]], Place | None]:
        return await let_go(
            connection, status, reason_prefix=WAITS, after=after, limit=PAGE, now=floor.now(), most=most
        )

    held, further = await floor.write(page)
    await floor.enqueue([Task(step, seq, priority) for seq, priority in held])
    return len(held), further
