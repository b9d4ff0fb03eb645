"""Health as a page: what `GET /readyz` tells, how long work has been waiting, and where briefs go."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from churn_radar.api.deliveries import read_sinks
from churn_radar.api.health import readyz
from churn_radar.api.signals import record_of
from churn_radar.errors import RecordUnavailable
from churn_radar.store.overview import AGES, MOST_COUNTED, depth_by_age
from churn_radar.web.base import page
from churn_radar.web.guard import PageRoute, Reader
from churn_radar.web.help import sections
from churn_radar.work.remedy import section

router = APIRouter(route_class=PageRoute)

NAMES = {"customerio": "Customer.io", "mavera": "Mavera"}


@router.get("/desk/health", name="health")
async def show_health(request: Request, visitor: Reader) -> HTMLResponse:
    """Everything an operator should know of the service as it runs. Shown also when the record cannot be read."""
    service = request.app.state.service
    ready = await readyz(request, Response(), visitor.who)
    try:
        async with record_of(request).read() as connection:
            depth = await depth_by_age(connection, service.now())
        sinks = (await read_sinks(request)).items
    except RecordUnavailable:
        depth, sinks = {}, []
    remedies = {name: sections()[section(name, trouble.status)] for name, trouble in ready.troubles_detail.items()}
    return page(
        request,
        "health.html",
        visitor=visitor,
        ready=ready,
        remedies=remedies,
        names=NAMES,
        depth=depth,
        ages=AGES,
        most=MOST_COUNTED,
        sinks=sinks,
        has_worker=service.worker is not None,
        database="Postgres" if service.record.path is None else "SQLite",
    )
