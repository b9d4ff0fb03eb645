"""Where briefs went: how each sink stands, what it got and what it did not, and starting that again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field, StringConstraints, model_validator

from churn_radar.api.audit import note
from churn_radar.api.auth import KeyedRoute, Operator, require_key
from churn_radar.api.errors import documented
from churn_radar.api.pages import Cursor, Limit, cursor_of, read_cursor
from churn_radar.api.signals import DeliveryState, record_of
from churn_radar.sinks.protocol import names
from churn_radar.store.sinks import OwedBrief, SinkState, list_deliveries, names_in_record, resume, state_of
from churn_radar.store.tables import DeliveryStatus

router = APIRouter(tags=["deliveries"], dependencies=[Depends(require_key)], route_class=KeyedRoute)

MOST = 1000


# As long as a path may be, which a sink's name may hold; Postgres takes no NUL.
SinkName = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]


class SinkAnswer(BaseModel):
    """One sink, and how it stands."""

    name: str
    configured: bool = Field(description="False: the record knows it, but the settings name it no more.")
    delivered_at: datetime | None = Field(description="When the newest brief that it has got was delivered.")
    waiting: int = Field(description="Deliveries that are owed, or wait for their next attempt.")
    dead: int = Field(description="Deliveries that were given up; POST /deliveries/replay starts them again.")
    trouble: str | None = Field(description="What the newest delivery that waits or is dead failed of.")
    stopped_at: datetime | None = Field(description="Since when nothing goes there; null: it is not stopped.")
    stopped_because: str | None = Field(description="Why, such as the receiver's answer 410.")


class SinkAnswers(BaseModel):
    """Every sink."""

    items: list[SinkAnswer]


class DeliveryItem(DeliveryState):
    """One brief at one sink."""

    id: int
    brief_id: str
    customer_id: str


class DeliveryPage(BaseModel):
    """Some deliveries, newest first."""

    items: list[DeliveryItem]
    cursor: str | None = Field(description="Pass it on to read further; null at the end.")


class Redeliver(BaseModel):
    """Which dead deliveries to start again: by their ids, of one sink, or all."""

    ids: list[int] | None = Field(None, max_length=MOST, description="Those of GET /deliveries.")
    sink: SinkName | None = Field(None, description="All of this sink.")
    all: bool = Field(False, description="All of all sinks.")
    cursor: str | None = Field(None, max_length=100, description="From the previous answer.")
    limit: int = Field(500, ge=1, le=MOST, description="How many to take at most in this call.")
    dry_run: bool = Field(False, description="Change nothing; only tell how many there are.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.ids is not None) + (self.sink is not None) + self.all != 1:
            raise ValueError("say which: ids, sink or all")
        return self


class RedeliverAnswer(BaseModel):
    """What it leads to."""

    count: int = Field(description="Deliveries that start again, or would (dry_run, then all of them).")
    cursor: str | None = Field(description="Pass it on to go on; null at the end.")


class Resume(BaseModel):
    """Which stopped sink gets briefs again."""

    name: SinkName


class ResumeAnswer(BaseModel):
    """How it stands now."""

    name: str
    was_stopped: bool
    dead: int = Field(description="Deliveries that were given up; POST /deliveries/replay starts them again.")


def _sink(name: str, state: SinkState, *, configured: bool) -> SinkAnswer:
    return SinkAnswer(
        name=name,
        configured=configured,
        delivered_at=state.delivered_at,
        waiting=state.waiting,
        dead=state.dead,
        trouble=state.trouble,
        stopped_at=state.stopped.since if state.stopped else None,
        stopped_because=state.stopped.reason if state.stopped else None,
    )


def _item(found: OwedBrief) -> DeliveryItem:
    each = found.delivery
    return DeliveryItem(
        id=each.seq,
        brief_id=found.brief_id,
        customer_id=found.customer_id,
        sink=each.sink,
        status=each.status,
        attempts=each.attempts,
        reason=each.reason,
        due_at=each.due_at,
        updated_at=each.updated_at,
    )


@router.get("/sinks", summary="Where briefs go, and how each place stands", responses=documented(401, 422, 503))
async def read_sinks(request: Request) -> SinkAnswers:
    """The sinks of the settings in their order, then those that only the record knows of any more."""
    configured = names(request.app.state.service.sinks)
    async with record_of(request).read() as connection:
        others = [name for name in await names_in_record(connection) if name not in configured]
        return SinkAnswers(
            items=[
                _sink(name, await state_of(connection, name), configured=name in configured)
                for name in (*configured, *others)
            ]
        )


async def _known(request: Request, name: str) -> None:
    """A name that neither the settings nor the record knows is a slip of the pen; to do nothing would hide it."""
    if name in names(request.app.state.service.sinks):
        return
    async with record_of(request).read() as connection:
        if name not in await names_in_record(connection):
            raise HTTPException(422, "there is no sink of this name; `churn-radar sinks` lists them")


@router.post(
    "/sinks/resume", summary="Let a stopped sink get briefs again", responses=documented(401, 403, 413, 422, 503)
)
async def resume_sink(request: Request, who: Operator, wanted: Annotated[Resume, Body()]) -> ResumeAnswer:
    """Take back the stop of a sink that answered 410 (Gone). What it missed meanwhile is dead, and can be replayed."""
    await _known(request, wanted.name)
    await note(request, who, "resume sink", wanted.name)
    was_stopped = await record_of(request).write(lambda connection: resume(connection, wanted.name))
    async with record_of(request).read() as connection:
        state = await state_of(connection, wanted.name)
    return ResumeAnswer(name=wanted.name, was_stopped=was_stopped, dead=state.dead)


@router.get("/deliveries", summary="Deliveries of one status, newest first", responses=documented(400, 401, 422, 503))
async def read_deliveries(
    request: Request,
    status: Annotated[
        DeliveryStatus, Query(description="pending, delivered, dead, or skipped (the sink does not take it).")
    ] = DeliveryStatus.DEAD,
    sink: Annotated[SinkName | None, Query(description="Only those of this sink.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> DeliveryPage:
    """One page of deliveries. Continue with the `cursor` of the answer."""
    async with record_of(request).read() as connection:
        found = await list_deliveries(connection, status=status, sink=sink, before=read_cursor(cursor), limit=limit + 1)
    return DeliveryPage(
        items=[_item(each) for each in found[:limit]],
        cursor=cursor_of(found[limit - 1].delivery.seq) if len(found) > limit else None,
    )


ONLY_TOLD: dict[int | str, dict[str, Any]] = {
    200: {"model": RedeliverAnswer, "description": "Told only (dry_run); nothing was changed."}
}


@router.post(
    "/deliveries/replay",
    status_code=202,
    summary="Start dead deliveries again",
    responses={**ONLY_TOLD, **documented(400, 401, 403, 413, 422, 503)},
)
async def replay_deliveries(
    request: Request, response: Response, who: Operator, wanted: Annotated[Redeliver, Body()]
) -> RedeliverAnswer:
    """Owe dead deliveries to their sinks again. Doing it twice does what doing it once does.

    Those of a sink that is stopped, or configured no more, are given up again: resume or configure it first.
    """
    if wanted.ids is not None and any(not 0 < each < 2**63 for each in wanted.ids):
        raise HTTPException(422, "ids are positive numbers")
    if wanted.sink is not None:
        await _known(request, wanted.sink)
    if not wanted.dry_run:
        await note(
            request,
            who,
            "replay deliveries",
            wanted.sink or ("all" if wanted.all else f"{len(wanted.ids or ()):,} by their ids"),
        )
    done = await request.app.state.service.redeliver(
        ids=wanted.ids,
        sink=wanted.sink,
        before=read_cursor(wanted.cursor),
        limit=wanted.limit,
        dry_run=wanted.dry_run,
    )
    if wanted.dry_run:
        response.status_code = 200
    return RedeliverAnswer(count=done.count, cursor=cursor_of(done.further) if done.further is not None else None)
