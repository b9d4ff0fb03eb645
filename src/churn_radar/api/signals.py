"""What became of each signal."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from churn_radar.api.auth import KeyedRoute, require_key
from churn_radar.api.errors import documented
from churn_radar.api.pages import Cursor, Limit, cursor_of, read_cursor
from churn_radar.research.brief import AttributesSource
from churn_radar.store.briefs import public_ids
from churn_radar.store.deliveries import deliveries_of
from churn_radar.store.record import Record
from churn_radar.store.signals import (
    Signal,
    find_signal,
    history,
    list_signals,
    load_signal,
    quarantined_body,
)
from churn_radar.store.tables import Status
from churn_radar.work.remedy import link
from churn_radar.work.triaged import Triaged

router = APIRouter(tags=["signals"], dependencies=[Depends(require_key)], route_class=KeyedRoute)

UNKNOWN = "nothing is known of this event"


class HistoryStep(BaseModel):
    """One line of a signal's story."""

    at: datetime
    status: str
    reason: str | None = None
    attempt: int = 0


class DeliveryState(BaseModel):
    """What became of the brief at one sink."""

    sink: str
    status: str
    attempts: int
    reason: str | None = None
    due_at: datetime | None = None
    updated_at: datetime


class SignalSummary(BaseModel):
    """One event, and where it stands."""

    id: str = Field(description="Our id of the signal.")
    event_id: str = Field(description="Customer.io's id of the event, or ours where it had none.")
    event_type: str | None = Field(description="unsubscribed, bounced, complained; null while quarantined.")
    metric: str | None = Field(description="The event's name as it came.")
    object_type: str | None
    customer_id: str | None
    cio_id: str | None
    email: str | None
    status: Status = Field(
        description="received (not yet triaged), waiting (for research), researching, briefed, skipped, joined, "
        "dead, quarantined."
    )
    reason: str | None = Field(description="Why it stands there, where that needs saying.")
    failed_service: str | None = Field(
        None, description="Of a dead letter: the service it died of, customerio or mavera; null: a fault of ours."
    )
    failed_status: int | None = Field(
        None, description="Of a dead letter: the HTTP status that this service answered last; null: no answer came."
    )
    help: str | None = Field(None, description="Of a dead letter: where to read what to do about it.")
    attempts: int = Field(description="Failed attempts of the step under way.")
    next_attempt_at: datetime | None
    persona_type: str | None
    plan: str | None
    mrr: float | None
    attributes_source: AttributesSource | None
    brief_id: str | None = Field(description="The brief that answers this signal.")
    joined_to: str | None = Field(description="The signal whose brief this one shares.")
    source: str = Field(description="webhook, api or backfill.")
    occurred_at: datetime | None
    received_at: datetime
    updated_at: datetime


class SignalDetail(SignalSummary):
    """One event with its whole story."""

    facts: dict[str, str] = Field(description="Particulars of the message that the event was about.")
    history: list[HistoryStep] = Field(description="Oldest first.")
    deliveries: list[DeliveryState] = Field(description="What became of its brief, sink by sink.")
    body: str | None = Field(
        None, description="While quarantined: the body as it came; bytes that are no UTF-8 as \\xNN."
    )
    body_base64: str | None = Field(
        None, description="The same byte for byte, where some of them are no UTF-8 and `body` cannot say it."
    )


class SignalPage(BaseModel):
    """Some signals, newest first."""

    items: list[SignalSummary]
    cursor: str | None = Field(description="Pass it on to read further; null at the end.")


async def summaries(connection: AsyncConnection, signals: list[Signal], request: Request) -> list[SignalSummary]:
    """What is told of each signal, in the order given."""
    return await summarise(connection, signals, request.app.state.service.settings.help_url)


async def summarise(connection: AsyncConnection, signals: list[Signal], help_url: str) -> list[SignalSummary]:
    """The same without a request; `help_url` is where help on dead letters is."""
    briefs = await public_ids(connection, [s.brief_seq for s in signals if s.brief_seq])
    told = []
    for signal in signals:
        leader = await load_signal(connection, signal.joined_to) if signal.joined_to else None
        triaged = Triaged.model_validate(signal.triage) if signal.triage else Triaged()
        told.append(
            SignalSummary(
                id=signal.signal_id,
                event_id=signal.public_id,
                event_type=signal.kind,
                metric=signal.metric,
                object_type=signal.object_type,
                customer_id=signal.customer.id,
                cio_id=signal.customer.cio_id,
                email=signal.customer.email,
                status=signal.status,
                reason=signal.reason,
                failed_service=signal.failed_service,
                failed_status=signal.failed_status,
                help=help_of(signal, help_url),
                attempts=signal.attempts,
                next_attempt_at=signal.due_at,
                persona_type=triaged.persona,
                plan=triaged.account.plan if triaged.account else None,
                mrr=float(triaged.account.mrr) if triaged.account else None,
                attributes_source=triaged.attributes_source if signal.triage else None,
                brief_id=briefs.get(signal.brief_seq) if signal.brief_seq else None,
                joined_to=leader.public_id if leader else None,
                source=signal.source,
                occurred_at=signal.occurred_at,
                received_at=signal.received_at,
                updated_at=signal.updated_at,
            )
        )
    return told


def record_of(request: Request) -> Record:
    """The record of the service that answers."""
    record: Record = request.app.state.service.record
    return record


def help_of(signal: Signal, help_url: str) -> str | None:
    """Of a dead letter: where to read what to do about it."""
    if signal.status is not Status.DEAD:
        return None
    return link(help_url, signal.failed_service, signal.failed_status)


EventId = Annotated[
    str, Path(description="Customer.io's id of the event (the newest, when kinds share one), or our id of the signal.")
]


@router.get("/signals", summary="Signals, newest first", responses=documented(400, 401, 422, 503))
async def read_signals(
    request: Request,
    status: Annotated[Status | None, Query(description="Only those that stand here.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> SignalPage:
    """One page of signals, optionally of one status. Continue with the `cursor` of the answer.

    Newest first; those that are `waiting` come in the order in which they will be researched, dearest first.
    """
    async with record_of(request).read() as connection:
        found = await list_signals(connection, status=status, after=read_cursor(cursor), limit=limit + 1)
        items = await summaries(connection, found[:limit], request)
    return SignalPage(items=items, cursor=cursor_of(found[limit - 1].seq) if len(found) > limit else None)


def _told(body: bytes | None) -> dict[str, str]:
    if body is None:
        return {}
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        exact = base64.b64encode(body).decode()
        return {"body": body.decode(errors="backslashreplace"), "body_base64": exact}


@router.get(
    "/signals/{event_id:path}",
    summary="What became of one signal",
    responses=documented(401, 404, 422, 503, not_found=UNKNOWN),
)
async def read_signal(request: Request, event_id: EventId) -> SignalDetail:
    """One signal with its facts, its history and the deliveries of its brief."""
    async with record_of(request).read() as connection:
        signal = await find_signal(connection, event_id)
        if signal is None:
            raise HTTPException(404, UNKNOWN)
        [summary] = await summaries(connection, [signal], request)
        steps = await history(connection, signal)
        deliveries = await deliveries_of(connection, signal.brief_seq) if signal.brief_seq else []
        quarantined = signal.status is Status.QUARANTINED
        body = await quarantined_body(connection, signal.seq) if quarantined else None
    return SignalDetail(
        **summary.model_dump(),
        **_told(body),
        facts=signal.facts,
        history=[HistoryStep(at=s.at, status=s.status, reason=s.reason, attempt=s.attempt) for s in steps],
        deliveries=[
            DeliveryState(
                sink=d.sink,
                status=d.status,
                attempts=d.attempts,
                reason=d.reason,
                due_at=d.due_at,
                updated_at=d.updated_at,
            )
            for d in deliveries
        ],
    )
