"""What became of the customer: said, read and summed up; who looks after a brief, and until when it is put aside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends, HTTPException, Path, Request
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.api.audit import note as note_change
from churn_radar.api.auth import KeyedRoute, Operator, require_key
from churn_radar.api.errors import documented
from churn_radar.api.signals import record_of
from churn_radar.outcome.rules import (
    MOST_NAME_CHARACTERS,
    MOST_NOTE_CHARACTERS,
    NotSensible,
    Outcome,
    read_note,
    read_owner,
    read_snooze,
)
from churn_radar.research.brief import Hint
from churn_radar.store.hints import hints_since
from churn_radar.store.outcomes import Handling, assign, find_handling, set_outcome, snooze, story_of

router = APIRouter(tags=["outcomes"], dependencies=[Depends(require_key)], route_class=KeyedRoute)

UNKNOWN = "there is no such brief"
BriefId = Annotated[str, Path(description="The brief's own id, such as `brf_1f0c...`.", max_length=40)]
Note = Annotated[
    str | None, Field(max_length=MOST_NOTE_CHARACTERS, description="Free text, kept with the story of the brief.")
]


class OutcomeWanted(BaseModel):
    """What became of the customer."""

    outcome: Outcome | None = Field(
        description="contacted: somebody has spoken to them. saved, lost, not_a_risk: how it ended. null takes it back."
    )
    note: Note = None


class OwnerWanted(BaseModel):
    """Who looks after the brief."""

    owner: str | None = Field(max_length=MOST_NAME_CHARACTERS, description="A name as your team uses it; null: nobody.")


class SnoozeWanted(BaseModel):
    """Until when the brief is put aside."""

    until: AwareDatetime | None = Field(description="With its zone; the reminder comes then. null fetches it back.")
    note: Note = None


class StoryLine(BaseModel):
    """Something that was done about the brief."""

    at: datetime
    who: str = Field(description="Who did it, or by which way it came in.")
    what: str = Field(description="outcome, owner, snoozed or reminded.")
    value: str | None = Field(description="The outcome, the owner or the moment; null: taken back.")
    note: str | None = None


class BriefHandling(BaseModel):
    """Where a brief stands with the people who look after it."""

    brief_id: str
    outcome: Outcome | None = Field(description="What was said last; null: nothing yet.")
    outcome_at: datetime | None
    open: bool = Field(description="Nobody has said yet how it ended.")
    owner: str | None
    snoozed_until: datetime | None
    reminded_at: datetime | None = Field(
        description="It was put aside, has come back, and nobody has touched it since."
    )
    first_contact_at: datetime | None = Field(description="When `contacted` or `saved` was first said.")
    history: list[StoryLine] = Field(description="Oldest first.")
    hints: list[Hint] = Field(description="What the customer did since the signal that speaks of staying.")


_OUTCOME_EXAMPLES: dict[str, Any] = {
    "saved": {"summary": "The customer stays", "value": {"outcome": "saved", "note": "took the yearly plan"}},
    "contacted": {"summary": "Somebody has spoken to them", "value": {"outcome": "contacted"}},
    "not_a_risk": {"summary": "It was no churn risk", "value": {"outcome": "not_a_risk", "note": "a shared mailbox"}},
    "taken back": {"summary": "It was a mistake", "value": {"outcome": None}},
}

Given = TypeVar("Given")
Read = TypeVar("Read")
Change = Callable[[AsyncConnection, datetime], Awaitable[Handling | None]]


async def _told(connection: AsyncConnection, handling: Handling) -> BriefHandling:
    story = await story_of(connection, handling.seq)
    hinted = (await hints_since(connection, [handling.customer_seq]))[handling.customer_seq]
    return BriefHandling(
        brief_id=handling.brief_id,
        outcome=handling.outcome,
        outcome_at=handling.outcome_at,
        open=handling.is_open,
        owner=handling.owner,
        snoozed_until=handling.snoozed_until,
        reminded_at=handling.reminded_at,
        first_contact_at=handling.first_contact_at,
        history=[StoryLine(at=s.at, who=s.who, what=s.what, value=s.value, note=s.note) for s in story],
        hints=[Hint(event_type=h.kind, at=h.at) for h in hinted if h.at >= handling.signal_received_at],
    )


async def _changed(request: Request, change: Change) -> BriefHandling:
    now = request.app.state.service.now()

    async def work(connection: AsyncConnection) -> BriefHandling | None:
        handling = await change(connection, now)
        return await _told(connection, handling) if handling else None

    told = await record_of(request).write(work)
    if told is None:
        raise HTTPException(404, UNKNOWN)
    return told


@router.get(
    "/outcomes/{brief_id}",
    summary="What was done about a brief",
    responses=documented(401, 404, 422, 503, not_found=UNKNOWN),
)
async def read_outcome(request: Request, brief_id: BriefId) -> BriefHandling:
    """The outcome, the owner, the snooze, and the story of all of them."""
    async with record_of(request).read() as connection:
        handling = await find_handling(connection, brief_id)
        if handling is None:
            raise HTTPException(404, UNKNOWN)
        return await _told(connection, handling)


@router.post(
    "/outcomes/{brief_id}",
    summary="Say what became of the customer",
    responses=documented(401, 403, 404, 413, 422, 503, not_found=UNKNOWN),
)
async def post_outcome(
    request: Request,
    who: Operator,
    brief_id: BriefId,
    wanted: Annotated[OutcomeWanted, Body(openapi_examples=_OUTCOME_EXAMPLES)],
) -> BriefHandling:
    """What is said last counts; what was said before is kept. The same again, without a note, does nothing."""
    note = sensible(read_note, wanted.note)
    await note_change(request, who, "outcome", brief_id, wanted.outcome or "taken back")
    return await _changed(
        request,
        lambda connection, now: set_outcome(connection, brief_id, wanted.outcome, who=who.name, now=now, note=note),
    )


@router.put(
    "/outcomes/{brief_id}/owner",
    summary="Say who looks after a brief",
    responses=documented(401, 403, 404, 413, 422, 503, not_found=UNKNOWN),
)
async def put_owner(
    request: Request,
    who: Operator,
    brief_id: BriefId,
    wanted: Annotated[
        OwnerWanted,
        Body(openapi_examples={"somebody": {"value": {"owner": "Ines"}}, "nobody": {"value": {"owner": None}}}),
    ],
) -> BriefHandling:
    """A name as your team uses it; nothing is looked up."""
    owner = sensible(read_owner, wanted.owner)
    await note_change(request, who, "assign", brief_id)
    return await _changed(request, lambda connection, now: assign(connection, brief_id, owner, who=who.name, now=now))


@router.put(
    "/outcomes/{brief_id}/snooze",
    summary="Put a brief aside until a moment",
    responses=documented(401, 403, 404, 413, 422, 503, not_found=UNKNOWN),
)
async def put_snooze(
    request: Request,
    who: Operator,
    brief_id: BriefId,
    wanted: Annotated[
        SnoozeWanted,
        Body(
            openapi_examples={
                "until Monday": {"value": {"until": "2026-11-30T09:00:00+01:00", "note": "after their board meeting"}},
                "fetched back": {"value": {"until": None}},
            }
        ),
    ],
) -> BriefHandling:
    """A reminder goes to the sinks that can carry one, once, when the moment has come; the pages show it until then."""
    note = sensible(read_note, wanted.note)
    until = None
    if wanted.until is not None:
        now = request.app.state.service.now()
        until = sensible(lambda moment: read_snooze(moment, now), wanted.until.astimezone(UTC))
    await note_change(request, who, "snooze", brief_id, until.isoformat() if until else "fetched back")
    return await _changed(
        request, lambda connection, now: snooze(connection, brief_id, until, who=who.name, now=now, note=note)
    )


def sensible(read: Callable[[Given], Read], given: Given) -> Read:
    """What `read` makes of what was given; raises 422 with its reason."""
    try:
        return read(given)
    except NotSensible as error:
        raise HTTPException(422, str(error)) from None
