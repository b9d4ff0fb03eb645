"""Posting an event by hand: the same typed event as the webhook's, unsigned, with an API key."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request
from pydantic import BaseModel, Field

from churn_radar.api.audit import note
from churn_radar.api.auth import KeyedRoute, Operator, require_key
from churn_radar.api.errors import documented
from churn_radar.errors import NotUnderstood
from churn_radar.intake.events import NotASignal, to_arrival, understand
from churn_radar.intake.payload import Event
from churn_radar.intake.samples import SAMPLES
from churn_radar.store.arrivals import Verdict

router = APIRouter(tags=["events"], dependencies=[Depends(require_key)], route_class=KeyedRoute)


class EventAnswer(BaseModel):
    """What became of an event at the door."""

    status: Verdict
    event_id: str | None = Field(description="Customer.io's id, or ours where the event had none.")


EXAMPLES: dict[str, Any] = {
    name: {"summary": sample.summary, "value": sample.payload} for name, sample in SAMPLES.items()
}


@router.post("/events", summary="Feed one event in by hand", responses=documented(401, 403, 413, 422, 503))
async def post_event(
    request: Request,
    who: Operator,
    event: Annotated[Event, Body(openapi_examples=EXAMPLES)],
    force: Annotated[
        bool, Query(description="Set dedupe and cool-down aside: the event counts as new, and gets a brief of its own.")
    ] = False,
) -> EventAnswer:
    """Pick an example, press execute, and read the brief at `/briefs/{customer_id}` a little later."""
    service = request.app.state.service
    try:
        understood = understand(event, service.settings.kept_events)
    except NotUnderstood as error:
        raise HTTPException(422, f"the event is not understood: {error.reason}") from None
    if isinstance(understood, NotASignal):
        return EventAnswer(status=Verdict.IGNORED, event_id=understood.event_id)
    await note(request, who, "post event", understood.event_id, "with force" if force else None)
    salt = uuid.uuid4().hex if force else None
    accepted = await service.accept(to_arrival(understood, received_at=service.now(), source="api", force_salt=salt))
    return EventAnswer(status=accepted.verdict, event_id=accepted.public_id)
