"""What became of the customer, said on a brief's page: outcome, owner, snooze; and what came of it all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from churn_radar.api.audit import note as note_change
from churn_radar.api.outcome_figures import figures_of_days
from churn_radar.api.outcomes import UNKNOWN, Change, sensible
from churn_radar.api.signals import record_of
from churn_radar.outcome.counting import day_of
from churn_radar.outcome.rules import Outcome, read_note, read_owner, read_snooze
from churn_radar.outcome.summary import Counts
from churn_radar.store.outcomes import assign, find_handling, set_outcome, snooze, story_of
from churn_radar.web.base import go_to, page
from churn_radar.web.guard import Operator, PageRoute, Reader

router = APIRouter(route_class=PageRoute)

PERIODS = (7, 30, 90, 365)
MOST_ROWS = 12


async def _changed(request: Request, brief_id: str, change: Change) -> RedirectResponse:
    """Make a change, and go back to the brief."""
    now: datetime = request.app.state.service.now()
    if await record_of(request).write(lambda connection: change(connection, now)) is None:
        raise HTTPException(404, UNKNOWN)
    return go_to(request, "brief", brief_id=brief_id)


@router.post("/desk/briefs/{brief_id}/outcome", name="say_outcome")
async def say_outcome(
    request: Request,
    visitor: Operator,
    brief_id: str,
    outcome: Annotated[str, Form(max_length=16)] = "",
    note: Annotated[str, Form(max_length=10_000)] = "",
) -> RedirectResponse:
    """Say what became of the customer; an empty outcome takes back what was said."""
    if outcome not in {"", *Outcome}:
        raise HTTPException(422, "choose one of the outcomes")
    wanted = Outcome(outcome) if outcome else None
    words = sensible(read_note, note)
    await note_change(request, visitor.who, "outcome", brief_id, wanted or "taken back", via="page")
    return await _changed(
        request,
        brief_id,
        lambda connection, now: set_outcome(connection, brief_id, wanted, who=visitor.who.name, now=now, note=words),
    )


@router.post("/desk/briefs/{brief_id}/owner", name="assign_brief")
async def assign_brief(
    request: Request, visitor: Operator, brief_id: str, owner: Annotated[str, Form(max_length=1000)] = ""
) -> RedirectResponse:
    """Say who looks after a brief; nobody when left empty."""
    name = sensible(read_owner, owner)
    await note_change(request, visitor.who, "assign", brief_id, via="page")
    return await _changed(
        request,
        brief_id,
        lambda connection, now: assign(connection, brief_id, name, who=visitor.who.name, now=now),
    )


@router.post("/desk/briefs/{brief_id}/snooze", name="snooze_brief")
async def snooze_brief(
    request: Request,
    visitor: Operator,
    brief_id: str,
    days: Annotated[str, Form(max_length=4)] = "",
    on: Annotated[str, Form(max_length=32)] = "",
    note: Annotated[str, Form(max_length=10_000)] = "",
) -> RedirectResponse:
    """Put a brief aside for some days, or until the morning of a day (UTC); fetched back when neither is told."""
    now: datetime = request.app.state.service.now()
    until = _until(days, on, now)
    if until is not None:
        until = sensible(lambda moment: read_snooze(moment, now), until)
    words = sensible(read_note, note)
    await note_change(
        request, visitor.who, "snooze", brief_id, until.isoformat() if until else "fetched back", via="page"
    )
    return await _changed(
        request,
        brief_id,
        lambda connection, now: snooze(connection, brief_id, until, who=visitor.who.name, now=now, note=words),
    )


def _until(days: str, on: str, now: datetime) -> datetime | None:
    try:
        if on:
            return datetime.fromisoformat(on).replace(tzinfo=UTC) + timedelta(hours=8 if len(on) <= 10 else 0)
        return now + timedelta(days=int(days)) if days else None
    except (ValueError, OverflowError):
        raise HTTPException(422, "that is no day") from None


@router.get("/desk/briefs/{brief_id}/story", name="brief_story")
async def show_story(request: Request, visitor: Reader, brief_id: str) -> HTMLResponse:
    """What people did about a brief, and where it stands."""
    async with record_of(request).read() as connection:
        handling = await find_handling(connection, brief_id)
        if handling is None:
            raise HTTPException(404, UNKNOWN)
        story = await story_of(connection, handling.seq)
    return page(
        request,
        "brief_story.html",
        visitor=visitor,
        handling=handling,
        story=list(reversed(story)),
        outcomes=list(Outcome),
    )


@router.get("/desk/outcomes", name="outcomes")
async def show_outcomes(
    request: Request, visitor: Reader, days: Annotated[int, Query(ge=1, le=3660)] = 90
) -> HTMLResponse:
    """What came of the briefs of some days: by persona, kind and offer, how soon, and what it cost."""
    figures, first, last = await figures_of_days(request, days)
    tables: list[tuple[str, str, list[Counts]]] = [
        ("persona", "By persona", figures.by_persona[:MOST_ROWS]),
        ("kind", "By kind of signal", figures.by_kind[:MOST_ROWS]),
        ("offer", "By offer", figures.by_offer[:MOST_ROWS]),
    ]
    return page(
        request,
        "outcomes.html",
        visitor=visitor,
        figures=figures,
        tables=tables,
        days=days,
        periods=PERIODS,
        first_day=day_of(first),
        last_day=day_of(last),
        outcomes=list(Outcome),
        more=len(figures.by_persona) - MOST_ROWS,
    )
