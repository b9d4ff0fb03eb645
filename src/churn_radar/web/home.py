"""The first page: `/`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from churn_radar.web.base import go_to
from churn_radar.web.guard import PageRoute, Reader

router = APIRouter(route_class=PageRoute)


@router.get("/", name="home")
async def show_home(request: Request, visitor: Reader) -> RedirectResponse:
    """The signals, until there is a page of today."""
    return go_to(request, "signals")
