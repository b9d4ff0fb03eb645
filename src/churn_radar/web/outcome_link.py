"""Links from chat and mail: opening one asks, its button does it. For whoever holds the link; no log-in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.access import Role, Who
from churn_radar.api.audit import note as note_change
from churn_radar.api.outcomes import UNKNOWN, sensible
from churn_radar.api.signals import record_of
from churn_radar.outcome.links import PATH, LinkRefused, OutcomeLink
from churn_radar.outcome.rules import read_note
from churn_radar.store.outcomes import Handling, LinkUsed, find_handling, set_outcome
from churn_radar.web.base import page
from churn_radar.web.guard import OpenRoute

router = APIRouter(route_class=OpenRoute)

WHO = Who("a link in a message", Role.OPERATOR)
USED = "this link has been used already, and something else was said since; open the brief itself"


def _read(request: Request, token: str) -> OutcomeLink:
    service = request.app.state.service
    try:
        link: OutcomeLink = service.outcome_links.read(token, service.now())
    except LinkRefused as error:
        raise HTTPException(410, str(error)) from None
    return link


@router.get(PATH + "/{token}", name="outcome_link")
async def ask(request: Request, token: str) -> HTMLResponse:
    """What the link would say, with a button that says it. Changes nothing: scanners and previews open links too."""
    link = _read(request, token)
    async with record_of(request).read() as connection:
        handling = await find_handling(connection, link.brief_id)
    if handling is None:
        raise HTTPException(404, UNKNOWN)
    return page(request, "outcome_link.html", visitor=None, link=link, handling=handling, token=token, done=False)


@router.post(PATH + "/{token}", name="use_outcome_link")
async def do(request: Request, token: str, note: Annotated[str, Form(max_length=10_000)] = "") -> HTMLResponse:
    """Say it. Pressing the button twice does what pressing it once does."""
    link = _read(request, token)
    words = sensible(read_note, note)
    now = request.app.state.service.now()

    async def work(connection: AsyncConnection) -> Handling | None:
        return await set_outcome(
            connection, link.brief_id, link.outcome, who=WHO.name, now=now, note=words, link=link.digest
        )

    await note_change(request, WHO, "outcome", link.brief_id, link.outcome, via="link")
    try:
        handling = await record_of(request).write(work)
    except LinkUsed:
        raise HTTPException(409, USED) from None
    if handling is None:
        raise HTTPException(404, UNKNOWN)
    return page(request, "outcome_link.html", visitor=None, link=link, handling=handling, token=token, done=True)
