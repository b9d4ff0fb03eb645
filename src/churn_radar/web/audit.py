"""The audit trail as a page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from churn_radar.api.audit import read_audit
from churn_radar.web.base import page
from churn_radar.web.guard import Operator, PageRoute

router = APIRouter(route_class=PageRoute)


@router.get("/desk/audit", name="audit")
async def show_audit(
    request: Request, visitor: Operator, cursor: Annotated[str | None, Query(max_length=100)] = None
) -> HTMLResponse:
    """Who changed what, newest first; for operators."""
    trail = await read_audit(request, limit=100, cursor=cursor)
    return page(request, "audit.html", visitor=visitor, trail=trail, is_first=cursor is None)
