"""Signals: the list with what became of each, and one signal with its story. Who it is about is masked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from churn_radar.api.audit import note
from churn_radar.api.pages import cursor_of, read_cursor
from churn_radar.api.signals import UNKNOWN, read_signal, record_of, summaries
from churn_radar.store.signals import list_signals
from churn_radar.store.tables import Status
from churn_radar.web.base import page
from churn_radar.web.guard import Operator, PageRoute, Reader, Visitor
from churn_radar.web.help import sections
from churn_radar.work.remedy import section

router = APIRouter(route_class=PageRoute)

ROWS = 50


@router.get("/desk/signals", name="signals")
async def show_signals(
    request: Request,
    visitor: Reader,
    status: Annotated[Status | None, Query()] = None,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
    replayed: int | None = None,
) -> HTMLResponse:
    """Signals, newest first; those that wait in the order in which they will be researched."""
    async with record_of(request).read() as connection:
        found = await list_signals(connection, status=status, after=read_cursor(cursor), limit=ROWS + 1)
        items = await summaries(connection, found[:ROWS], request)
    return page(
        request,
        "signals.html",
        visitor=visitor,
        items=items,
        chosen=status,
        statuses=list(Status),
        currency=request.app.state.service.settings.currency,
        cursor=cursor_of(found[ROWS - 1].seq) if len(found) > ROWS else None,
        is_first=cursor is None,
        replayed=replayed,
    )


@router.get("/desk/signals/{signal_id}", name="signal")
async def show_signal(request: Request, visitor: Reader, signal_id: str) -> HTMLResponse:
    """One signal; names, addresses and ids of the customer masked."""
    return await _signal(request, visitor, signal_id, is_masked=True)


@router.post("/desk/signals/{signal_id}/show", name="signal_unmasked")
async def show_signal_unmasked(request: Request, visitor: Operator, signal_id: str) -> HTMLResponse:
    """The same with everything that the record holds, for this once; the audit trail tells who has looked."""
    await note(request, visitor.who, "show personal data", signal_id, via="page")
    return await _signal(request, visitor, signal_id, is_masked=False)


async def _signal(request: Request, visitor: Visitor, signal_id: str, *, is_masked: bool) -> HTMLResponse:
    try:
        signal = await read_signal(request, signal_id)
    except HTTPException:
        raise HTTPException(404, UNKNOWN) from None
    return page(
        request,
        "signal.html",
        visitor=visitor,
        signal=signal,
        is_masked=is_masked,
        remedy=sections()[section(signal.failed_service, signal.failed_status)]
        if signal.status is Status.DEAD
        else None,
        currency=request.app.state.service.settings.currency,
    )
