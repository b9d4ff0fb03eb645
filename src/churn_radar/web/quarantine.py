"""The quarantine as a page: how full it is, what is in it and why, and bringing it out in one way or another."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse

from churn_radar.api.audit import named, note
from churn_radar.api.pages import cursor_of, read_cursor
from churn_radar.api.quarantine import read_quarantine
from churn_radar.api.replays import find_all
from churn_radar.api.signals import record_of, summaries
from churn_radar.store.overview import body_heads
from churn_radar.store.signals import list_signals
from churn_radar.store.tables import Status
from churn_radar.web.base import go_to, page
from churn_radar.web.guard import Operator, PageRoute, Reader
from churn_radar.web.masking import HEAD_BYTES, masked_body
from churn_radar.web.replay import NOTHING_CHOSEN, SignalIds

router = APIRouter(route_class=PageRoute)

ROWS = 50


@router.get("/desk/quarantine", name="quarantine")
async def show_quarantine(
    request: Request,
    visitor: Reader,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
    replayed: int | None = None,
    dropped: int | None = None,
    exported: int | None = None,
) -> HTMLResponse:
    """Bodies that were not understood, newest first, with the reason and how they begin."""
    async with record_of(request).read() as connection:
        found = await list_signals(connection, status=Status.QUARANTINED, after=read_cursor(cursor), limit=ROWS + 1)
        items = await summaries(connection, found[:ROWS], request)
        heads = await body_heads(connection, [signal.seq for signal in found[:ROWS]], HEAD_BYTES)
    bodies = {
        signal.signal_id: (size, masked_body(head))
        for signal in found[:ROWS]
        for size, head in [heads.get(signal.seq, (0, b""))]
    }
    return page(
        request,
        "quarantine.html",
        visitor=visitor,
        state=await read_quarantine(request),
        items=items,
        bodies=bodies,
        cursor=cursor_of(found[ROWS - 1].seq) if len(found) > ROWS else None,
        is_first=cursor is None,
        replayed=replayed,
        dropped=dropped,
        exported=exported,
    )


@router.post("/desk/quarantine/{action}", name="take_out")
async def take_out(
    request: Request,
    visitor: Operator,
    action: Literal["drop", "export"],
    signal_id: SignalIds = None,
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """Drop or export bodies; first tell what that means, then do it."""
    found, _ = await find_all(record_of(request), signal_id or [])
    chosen = [signal for signal in found if signal.status is Status.QUARANTINED]
    if not chosen:
        raise HTTPException(422, NOTHING_CHOSEN)
    quarantine = request.app.state.service.quarantine
    if not confirmed:
        return page(
            request,
            "take_out.html",
            visitor=visitor,
            action=action,
            count=len(chosen),
            ids=[signal.signal_id for signal in chosen],
            folder=str(quarantine.folder.resolve()),
        )
    await note(request, visitor.who, action, named([signal.signal_id for signal in chosen]), via="page")
    seqs = [signal.seq for signal in chosen]
    if action == "drop":
        return go_to(request, "quarantine", dropped=len(await quarantine.drop(seqs)))
    try:
        count, _ = await quarantine.export(seqs)
    except OSError as error:
        raise HTTPException(503, f"the export cannot be written: {error.strerror}; nothing was deleted") from None
    return go_to(request, "quarantine", exported=count)
