"""Briefs: a list to search and filter, dearest first, and to go through by keyboard."""

from __future__ import annotations

import base64
import binascii
import math
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from churn_radar.api.signals import record_of
from churn_radar.outcome.rules import Outcome
from churn_radar.store.at_risk import day_of, risk_since
from churn_radar.store.brief_search import NONE_YET, Place, Wanted, search_briefs
from churn_radar.web.base import page
from churn_radar.web.guard import PageRoute, Reader

router = APIRouter(route_class=PageRoute)

ROWS = 50
_NO_CURSOR = "the cursor is not one that this service gave out"

# A form sends a field that was left empty as an empty text.
Text = Annotated[str, Query(max_length=200)]


@router.get("/desk/briefs", name="briefs")
async def show_briefs(
    request: Request,
    visitor: Reader,
    q: Text = "",
    persona: Text = "",
    plan: Text = "",
    kind: Text = "",
    mrr_from: Text = "",
    mrr_to: Text = "",
    since: Text = "",
    until: Text = "",
    outcome: Text = "",
    owner: Text = "",
    at_risk: Text = "",
    cursor: Annotated[str | None, Query(max_length=100)] = None,
) -> HTMLResponse:
    """A page of briefs; what cannot be read as a number or a date is not asked for, and said to be so."""
    settings = request.app.state.service.settings
    asked = {
        "q": q,
        "persona": persona,
        "plan": plan,
        "kind": kind,
        "mrr_from": mrr_from,
        "mrr_to": mrr_to,
        "since": since,
        "until": until,
        "outcome": outcome,
        "owner": owner,
        "at_risk": at_risk,
    }
    asked = {name: value.strip() for name, value in asked.items() if value.strip()}
    wanted, unread = read_filters(asked)
    async with record_of(request).read() as connection:
        found = await search_briefs(connection, wanted, after=read_place(cursor), limit=ROWS)
        first_day = day_of(request.app.state.service.now()) - settings.at_risk_days + 1
        known = await risk_since(connection, first_day, currency=settings.currency)
    return page(
        request,
        "briefs.html",
        visitor=visitor,
        found=found,
        asked=asked,
        narrowed=len(asked.keys() - {"q"}),
        unread=unread,
        further=place_cursor(found.further) if found.further else None,
        is_first=cursor is None,
        personas=list(known.personas),
        kinds=settings.alert_events,
        plans=settings.research_plans,
        outcomes=list(Outcome),
        none_yet=NONE_YET,
    )


def read_filters(asked: dict[str, str]) -> tuple[Wanted, list[str]]:
    """What is asked of a brief, and the names of the fields that could not be read. Pure."""
    unread: list[str] = []

    def amount(name: str) -> float | None:
        try:
            value = float(asked[name].replace(",", "")) if name in asked else None
        except ValueError:
            value = math.nan
        if value is None or math.isfinite(value):
            return value
        unread.append(name)
        return None

    def midnight(name: str, days: int) -> datetime | None:
        try:
            day = date.fromisoformat(asked[name]) + timedelta(days=days) if name in asked else None
        except (ValueError, OverflowError):
            unread.append(name)
            return None
        return datetime.combine(day, time(), UTC) if day else None

    if asked.get("outcome", NONE_YET) not in (NONE_YET, *Outcome):
        unread.append("outcome")
    wanted = Wanted(
        customer=asked.get("q"),
        persona=asked.get("persona"),
        plan=asked.get("plan"),
        kind=asked.get("kind"),
        mrr_from=amount("mrr_from"),
        mrr_to=amount("mrr_to"),
        since=midnight("since", 0),
        before=midnight("until", 1),
        at_risk="at_risk" in asked,
        outcome=None if "outcome" in unread else asked.get("outcome"),
        owner=asked.get("owner"),
    )
    return wanted, unread


def place_cursor(place: Place) -> str:
    """A place in the list as an opaque text."""
    return base64.urlsafe_b64encode(f"v1:{place.mrr!r}:{place.seq}".encode()).decode().rstrip("=")


def read_place(cursor: str | None) -> Place | None:
    """The place that a cursor stands for; raises HTTPException (400) for what is none of ours."""
    if cursor is None:
        return None
    try:
        version, mrr, seq = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(":")
        place = Place(float(mrr), int(seq))
    except (ValueError, binascii.Error):
        raise HTTPException(400, _NO_CURSOR) from None
    if version != "v1" or not math.isfinite(place.mrr) or not 0 < place.seq < 2**63:
        raise HTTPException(400, _NO_CURSOR)
    return place
