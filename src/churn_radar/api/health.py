"""Is it alive, can it accept, what is it doing: for load balancers, operators and Prometheus."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Self

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from churn_radar import __version__, metrics
from churn_radar.api.errors import documented
from churn_radar.errors import RecordUnavailable
from churn_radar.research.budget import Standing
from churn_radar.upstream import RateInForce
from churn_radar.work.balance import Shown
from churn_radar.work.remedy import link
from churn_radar.work.troubles import Trouble

router = APIRouter(tags=["health"])

LEAST_FREE_BYTES = 64 * 1024 * 1024
SWITCHED_OFF = "metrics are switched off (CHURN_RADAR_METRICS_ENABLED)"


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"
    version: str = __version__


class Rate(BaseModel):
    """How fast one upstream service is called right now, and why."""

    limit: int = Field(description="Calls in any window, by the settings.")
    window_seconds: float = Field(description="The window that both limits are counted in, in seconds.")
    in_force: int = Field(
        description="Calls in any window that are kept to: `limit`, or less where the service says, or shows by "
        "answering 429, that it allows less."
    )
    told_limit: int | None = Field(None, description="X-RateLimit-Limit, as it came last; null: never.")
    told_remaining: int | None = Field(None, description="X-RateLimit-Remaining, as it came last.")
    told_reset_at: datetime | None = Field(None, description="X-RateLimit-Reset, as it came last.")
    told_at: datetime | None = Field(None, description="When these headers came.")
    held_until: datetime | None = Field(
        None,
        description="No call goes out before this: nothing is left by the headers, or Retry-After or a 429 asked for "
        "it. Null: calls go out.",
    )
    in_flight: int = Field(description="Calls under way.")
    concurrency: int = Field(description="Most calls that may be under way at once.")
    too_many: int = Field(description="Answers with 429 since the start, those that a retry made good included.")

    @classmethod
    def of(cls, rate: RateInForce, *, now: datetime) -> Self:
        """As it is shown at `now`."""
        told = rate.told
        return cls(
            limit=rate.limit,
            window_seconds=rate.window_seconds,
            in_force=rate.in_force,
            told_limit=told.limit if told else None,
            told_remaining=told.remaining if told else None,
            told_reset_at=told.reset_at if told else None,
            told_at=rate.told_at,
            held_until=now + timedelta(seconds=rate.held_seconds) if rate.held_seconds > 0 else None,
            in_flight=rate.in_flight,
            concurrency=rate.concurrency,
            too_many=rate.too_many,
        )


class TroubleState(BaseModel):
    """What only the operator can mend, and when it is found out whether it is mended."""

    message: str = Field(description="What the service said, and which setting it is about.")
    status: int | None = Field(None, description="What it answered: 401 (the key) or 402 (credits or budget).")
    since: datetime = Field(description="When it began.")
    next_probe_at: datetime = Field(
        description="When one call finds out whether it is mended; a replay makes that call at once."
    )
    probes: int = Field(description="How many such calls have found nothing mended.")
    help: str = Field(description="Where to read what to do about it.")

    @classmethod
    def of(cls, trouble: Trouble, *, help_url: str) -> Self:
        """As it is shown."""
        return cls(
            message=trouble.message,
            status=trouble.status,
            since=trouble.since,
            next_probe_at=trouble.next_probe_at,
            probes=trouble.probes,
            help=link(help_url, trouble.service, trouble.status),
        )


class Credits(BaseModel):
    """What research has cost this month, and what it may cost."""

    month: str = Field(description="The calendar month in UTC, as 2026-11.")
    spent: int = Field(description="Mavera credits spent, estimates included.")
    estimated: int = Field(description="How many of them are an estimate, for calls without a readable answer.")
    under_way: int = Field(description="An estimate of what the calls under way will cost; not yet in `spent`.")
    limit: int | None = Field(None, description="CHURN_RADAR_MONTHLY_CREDITS; null: none.")
    warning: str | None = Field(None, description="From 80 % of the limit on: how it stands, and who waits.")

    @classmethod
    def of(cls, shown: Shown, *, over_budget_mrr: Decimal) -> Self:
        """As the ledger shows it."""
        spent, limit = shown.spent, shown.limit
        warning = None
        if shown.standing is Standing.NEARLY_SPENT:
            warning = f"{spent.credits:,} of {limit:,} credits of {shown.month.name} are spent"
        elif shown.standing is Standing.SPENT:
            warning = (
                f"all {limit:,} credits of {shown.month.name} are spent; accounts with an MRR under {over_budget_mrr:,}"
                f" wait until {shown.month.first_day_after} (UTC)"
            )
        return cls(
            month=f"{shown.month.start:%Y-%m}",
            spent=spent.credits,
            estimated=spent.estimated,
            under_way=spent.under_way,
            limit=limit,
            warning=warning,
        )


class Ready(BaseModel):
    """Whether events can be accepted, and what else an operator should know."""

    status: str = Field(description="ready or unavailable.")
    reason: str | None = Field(None, description="Why events cannot be accepted.")
    troubles: dict[str, str] = Field(
        default_factory=dict, description="What only the operator can mend, by service; work waits meanwhile."
    )
    troubles_detail: dict[str, TroubleState] = Field(
        default_factory=dict, description="The same with since when, and when it is looked at again."
    )
    backlog: dict[str, int] = Field(default_factory=dict, description="Jobs that wait or run, by step.")
    rates: dict[str, Rate] = Field(
        default_factory=dict, description="How fast each upstream service is called right now, and why."
    )
    credits: Credits | None = Field(
        None, description="What research has cost this month; null while the record cannot be read."
    )


NOT_NOW = {
    "model": Ready,
    "description": "Not now, and why.",
    "content": {
        "application/json": {
            "example": {
                "status": "unavailable",
                "reason": "the record cannot commit: disk I/O error",
                "troubles": {},
                "backlog": {"triage": 3, "research": 1, "deliver": 0},
                "rates": {
                    "mavera": {
                        "limit": 120,
                        "window_seconds": 60,
                        "in_force": 60,
                        "told_limit": 60,
                        "told_remaining": 0,
                        "told_reset_at": "2026-03-02T09:00:21Z",
                        "told_at": "2026-03-02T09:00:04Z",
                        "held_until": "2026-03-02T09:00:21Z",
                        "in_flight": 4,
                        "concurrency": 10,
                        "too_many": 0,
                    }
                },
            }
        }
    },
}


@router.get("/healthz", summary="The process is alive")
async def healthz() -> Alive:
    """Answers as long as the event loop runs; says nothing of the record or the upstream services."""
    return Alive()


@router.get("/readyz", summary="Events can be accepted", responses={503: NOT_NOW})
async def readyz(request: Request, response: Response) -> Ready:
    """Commits to the record (at most once a second) and looks at the free disk space.

    What it tells besides, of backlog and rates, is in memory already: no call goes out for it.
    """
    service = request.app.state.service
    reason: str | None = None
    try:
        # On Postgres the disk is another machine's, and its commits tell.
        if (
            service.record.path is not None
            and (free := shutil.disk_usage(service.record.path.parent).free) < LEAST_FREE_BYTES
        ):
            reason = f"the disk of the record has {free // 2**20} MiB left; make room"
    except OSError as error:
        reason = f"the folder of the record cannot be looked at: {error.strerror}"
    try:
        await service.check_record()
    except RecordUnavailable as error:
        reason = str(error)
    if service.worker is not None and not service.worker.healthy:
        reason = "the worker has stopped; restart the service"
    if reason is not None:
        response.status_code = 503
    now = datetime.now(UTC)
    shown = await service.balance.read()
    return Ready(
        status="unavailable" if reason else "ready",
        reason=reason,
        troubles=service.worker.floor.troubles.current if service.worker else {},
        troubles_detail={
            trouble.service: TroubleState.of(trouble, help_url=service.settings.help_url)
            for trouble in (service.worker.floor.troubles.standing if service.worker else ())
        },
        backlog=await service.worker.backlog() if service.worker else {},
        rates={rate.service: Rate.of(rate, now=now) for rate in service.rates()},
        credits=Credits.of(shown, over_budget_mrr=service.settings.budget.over_budget_mrr) if shown else None,
    )


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(404, not_found=SWITCHED_OFF),
    },
)
async def read_metrics(request: Request) -> Response:
    """Counts and times in the Prometheus text format; no ids, no personal data."""
    service = request.app.state.service
    if not service.settings.metrics_enabled:
        raise HTTPException(404, SWITCHED_OFF)
    if service.worker is not None:
        metrics.backlog(await service.worker.backlog())
    metrics.rates(service.rates())
    if shown := await service.balance.read():
        metrics.budget(shown.spent.credits, shown.limit)
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
