"""The first page: `/`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from churn_radar.api.signals import record_of
from churn_radar.web.base import go_to
from churn_radar.web.guard import PageRoute, Reader
from churn_radar.web.welcome import nothing_came_yet

router = APIRouter(route_class=PageRoute)


@router.get("/", name="home")
async def show_home(request: Request, visitor: Reader) -> RedirectResponse:
    """What is at risk today; while there are no signals, what to do about that."""
    async with record_of(request).read() as connection:
        is_first = await nothing_came_yet(connection)
    return go_to(request, "welcome" if is_first else "today")
