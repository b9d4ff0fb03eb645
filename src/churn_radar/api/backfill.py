"""Feeding signals in that the door never saw, a page of the App API's list at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import AfterValidator, BaseModel, Field

from churn_radar.api.audit import note
from churn_radar.api.auth import KeyedRoute, Operator, require_key
from churn_radar.api.errors import documented
from churn_radar.customerio.messages import metrics_for
from churn_radar.customerio.workspace import Workspace
from churn_radar.errors import UpstreamError
from churn_radar.work.backfill import LONGEST, Fate, backfill_page
from churn_radar.work.selection import in_utc

router = APIRouter(tags=["signals"], dependencies=[Depends(require_key)], route_class=KeyedRoute)


class BackfillRequest(BaseModel):
    """Which page of which events to feed in."""

    metric: str = Field(description="A metric of mails that counts as a churn signal: bounced, spammed, unsubscribed.")
    since: Annotated[datetime, AfterValidator(in_utc)] = Field(
        description=f"What happened at this time or later (ISO 8601), at most {LONGEST.days} days ago and"
        " within the retention."
    )
    cursor: str | None = Field(None, max_length=2000, description="From the previous answer: continues where it ended.")
    dry_run: bool = Field(False, description="Change nothing; only count.")


class BackfillAnswer(BaseModel):
    """What became of the page."""

    fed_in: int = Field(description="New signals, now in the record with the source `backfill`.")
    known: int = Field(description="Events that the record has already.")
    kept_out: int = Field(description="Events about people who were forgotten.")
    not_understood: int = Field(description="Events that name no customer, for instance.")
    cursor: str | None = Field(description="Pass it on to go on; null at the end.")


@router.post(
    "/signals/backfill",
    summary="Feed in what the door never saw, a page at a time",
    responses=documented(401, 403, 413, 422, 503),
)
async def backfill(request: Request, who: Operator, wanted: BackfillRequest) -> BackfillAnswer:
    """Asks the App API for mails that bounced, were complained of or unsubscribed from, within its rate limit.

    An event that the record has, from the door or from an earlier backfill, is not fed in again.
    `churn-radar backfill --since 7d` goes through all pages of all metrics.
    """
    service = request.app.state.service
    settings, now = service.settings, service.now()
    metrics = metrics_for(settings.alert_events)
    if wanted.metric not in metrics:
        raise HTTPException(422, f"metric: one of {', '.join(metrics)}")
    if not now - LONGEST <= wanted.since <= now:
        raise HTTPException(422, f"since: between now and {LONGEST.days} days ago")
    if settings.retention_days is not None and wanted.since < now - timedelta(days=settings.retention_days):
        # What was removed is not known any more, and would be researched once again.
        raise HTTPException(422, f"since: within CHURN_RADAR_RETENTION_DAYS, the last {settings.retention_days} days")
    if settings.cio_app_key is None:
        raise HTTPException(503, "CIO_APP_KEY is missing; the App API cannot be asked")
    if not wanted.dry_run:
        await note(request, who, "backfill", wanted.metric, f"since {wanted.since.isoformat()}")
    workspace = Workspace.create(settings, pace=service.customerio_pace)
    try:
        done = await backfill_page(
            service.record,
            service.forgotten,
            workspace,
            wanted.metric,
            since=wanted.since,
            now=now,
            after=wanted.cursor,
            kept_events=settings.alert_events,
            dry_run=wanted.dry_run,
        )
    except UpstreamError as error:
        raise HTTPException(503, str(error), headers={"Retry-After": "60"}) from None
    finally:
        await workspace.aclose()
    return BackfillAnswer(cursor=done.next, **{fate.value: done.counts[fate] for fate in Fate})
