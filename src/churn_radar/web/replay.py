"""Replaying from a page: first what would happen, in words and numbers; then the same again, to make it so.

The first form names signals, or the dead letters of one cause; the page that tells the effect holds the same choice in
a form that says `confirmed`.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response

from churn_radar.api.audit import named, note
from churn_radar.api.replays import find_all
from churn_radar.api.signals import record_of
from churn_radar.store.overview import Cause
from churn_radar.store.signals import Signal
from churn_radar.store.tables import Status
from churn_radar.web.base import go_to, page
from churn_radar.web.guard import Operator, PageRoute
from churn_radar.work.selection import NO_ANSWER, Selection, select_page

router = APIRouter(route_class=PageRoute)

MOST = 1000
NOTHING_CHOSEN = "nothing was chosen; tick what is to be replayed"

Back = Literal["signals", "dead_letters", "quarantine"]
SignalIds = Annotated[list[str] | None, Form(max_length=MOST)]


@router.post("/desk/replay", name="replay")
async def replay(
    request: Request,
    visitor: Operator,
    signal_id: SignalIds = None,
    service: Annotated[Literal["customerio", "mavera"] | None, Form()] = None,
    status: Annotated[int | None, Form(ge=100, le=599)] = None,
    back: Annotated[Back, Form()] = "signals",
    force: Annotated[bool, Form()] = False,
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """Tell what a replay would do; confirmed, do it."""
    ids = signal_id or []
    cause = Cause(service, status) if service else None
    chosen, more = await _chosen(request, ids, cause)
    if not chosen:
        raise HTTPException(422, NOTHING_CHOSEN)
    running = request.app.state.service
    if confirmed:
        await note(
            request,
            visitor.who,
            "replay",
            named([signal.signal_id for signal in chosen]),
            "with force" if force else None,
            via="page",
        )
        done = await running.replay_all(chosen, force=force)
        return go_to(request, back, replayed=len(done))
    told = await running.replay_all(chosen, force=force, dry_run=True)
    return page(
        request,
        "replay.html",
        visitor=visitor,
        count=len(chosen),
        more=more,
        effects=Counter((each.status.value, each.effect) for each in told).most_common(),
        ids=ids,
        cause=cause,
        back=back,
        force=force,
    )


async def _chosen(request: Request, ids: list[str], cause: Cause | None) -> tuple[list[Signal], bool]:
    """The signals of a form, and whether there are more of the cause than are taken at once."""
    if cause is None:
        found, _ = await find_all(record_of(request), ids)
        return found, False
    answered = str(cause.status) if cause.status is not None else NO_ANSWER
    selection = Selection(Status.DEAD, failed_service=cause.service, failed_status=answered)
    page_, further = await select_page(record_of(request), selection, after=0, most=MOST)
    return page_, further is not None
