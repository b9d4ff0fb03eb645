"""What is held on one person: shown, handed over, erased. For operators; nobody's name stands in an address."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from churn_radar.api.audit import note as note_change
from churn_radar.api.customers import STAYS, UNKNOWN, everything_on
from churn_radar.store.person import SeveralPeople
from churn_radar.web.base import page
from churn_radar.web.guard import Operator, PageRoute
from churn_radar.work.forget import foresee, forget

router = APIRouter(route_class=PageRoute)

Customer = Annotated[str, Form(min_length=1, max_length=512)]


@router.get("/desk/personal", name="personal")
async def show_search(request: Request, visitor: Operator) -> HTMLResponse:
    """Whom to look for."""
    return page(
        request, "personal.html", visitor=visitor, asked=None, foreseen=None, problem=None, stays=STAYS, files=[]
    )


@router.post("/desk/personal", name="look_person_up")
async def look_up(request: Request, visitor: Operator, customer: Customer) -> HTMLResponse:
    """What is held on somebody, and what forgetting them would erase. Changes nothing."""
    service = request.app.state.service
    foreseen, problem = None, None
    try:
        foreseen, _ = await foresee(service.record, customer.strip())
    except SeveralPeople as error:
        problem = f"{error}: {', '.join(error.ids[:10])}"
    return page(
        request,
        "personal.html",
        visitor=visitor,
        asked=customer.strip(),
        foreseen=foreseen,
        problem=problem,
        stays=STAYS,
        files=list(service.quarantine.exports()),
    )


@router.post("/desk/personal/export", name="export_person")
async def hand_over(request: Request, visitor: Operator, customer: Customer) -> Response:
    """Everything as a file of JSON."""
    told = await everything_on(request, visitor.who, customer.strip(), via="page")
    return Response(
        told.model_dump_json(indent=2),
        media_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="person.json"'},
    )


@router.post("/desk/personal/forget", name="forget_person")
async def forget_person(
    request: Request, visitor: Operator, customer: Customer, sure: Annotated[str, Form(max_length=8)] = ""
) -> HTMLResponse:
    """Erase somebody, once it was said that this is meant."""
    if sure != "yes":
        raise HTTPException(422, "tick the box that says you are sure")
    service = request.app.state.service
    await note_change(request, visitor.who, "forget", via="page")
    try:
        erased = await forget(service.record, service.forgotten, customer.strip(), now=service.now())
    except SeveralPeople as error:
        raise HTTPException(409, f"{error}") from None
    return page(
        request,
        "forgotten.html",
        visitor=visitor,
        erased=erased,
        stays=STAYS,
        files=list(service.quarantine.exports()),
        unknown=UNKNOWN,
    )
