"""Dead letters by what they died of, with what to do about it, and replaying those of one cause or some of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from churn_radar.api.pages import cursor_of, read_cursor
from churn_radar.api.signals import record_of, summaries
from churn_radar.store.overview import Cause, dead_by_cause, dead_letters
from churn_radar.web.base import page
from churn_radar.web.guard import PageRoute, Reader
from churn_radar.web.help import sections
from churn_radar.work.remedy import section

router = APIRouter(route_class=PageRoute)

ROWS = 50


@router.get("/desk/dead-letters", name="dead_letters")
async def show_dead_letters(request: Request, visitor: Reader, replayed: int | None = None) -> HTMLResponse:
    """Every cause with its number, the most frequent first, and its remedy."""
    async with record_of(request).read() as connection:
        counts = await dead_by_cause(connection)
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    causes = [(cause, count, sections()[section(cause.service, cause.status)]) for cause, count in ordered]
    return page(request, "dead_letters.html", visitor=visitor, causes=causes, replayed=replayed)


@router.get("/desk/dead-letters/of", name="dead_letters_of")
async def show_dead_letters_of(
    request: Request,
    visitor: Reader,
    service: Annotated[str | None, Query(max_length=32)] = None,
    status: Annotated[int | None, Query(ge=100, le=599)] = None,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> HTMLResponse:
    """Those of one cause, newest first, to choose from."""
    cause = Cause(service, status)
    async with record_of(request).read() as connection:
        found = await dead_letters(connection, cause, before=read_cursor(cursor), limit=ROWS + 1)
        items = await summaries(connection, found[:ROWS], request)
    return page(
        request,
        "dead_letters_of.html",
        visitor=visitor,
        cause=cause,
        help=sections()[section(service, status)],
        items=items,
        currency=request.app.state.service.settings.currency,
        cursor=cursor_of(found[ROWS - 1].seq) if len(found) > ROWS else None,
        is_first=cursor is None,
    )
