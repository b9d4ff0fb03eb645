"""Is it alive, can it accept, what is it doing: for load balancers, operators and Prometheus."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel

from churn_radar import __version__, metrics
from churn_radar.access import Who
from churn_radar.api.auth import caller, require_key
from churn_radar.api.errors import documented
from churn_radar.api.readiness import (
    NOT_NOW,
    BufferState,
    Credits,
    Rate,
    Ready,
    Standing,
    TroubleState,
    in_a_word,
    plainly,
)
from churn_radar.errors import RecordUnavailable

if TYPE_CHECKING:
    from churn_radar.app import Service

router = APIRouter(tags=["health"])

LEAST_FREE_BYTES = 64 * 1024 * 1024
LONGEST_COUNT_SECONDS = 1.0
SWITCHED_OFF = "metrics are switched off (CHURN_RADAR_METRICS_ENABLED)"


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"
    version: str = __version__


@router.get("/healthz", summary="The process is alive")
async def healthz() -> Alive:
    """Answers as long as the event loop runs; says nothing of the record or the upstream services."""
    return Alive()


@router.get(
    "/readyz",
    summary="Events can be accepted",
    responses={503: NOT_NOW},
    # Beside the two ways to bring a key: none is needed.
    openapi_extra={"security": [{}]},
)
async def readyz(request: Request, response: Response, who: Annotated[Who | None, Depends(caller)]) -> Ready:
    """Commits to the record (at most once a second) and looks at the free disk space and the buffer.

    With a buffer it is ready while either of the two takes events. What it tells besides, of backlog and rates, costs
    no call of an upstream service. Anyone may ask; with an API key it also tells the month's credits, and troubles in
    the words of the service that made them.
    """
    service: Service = request.app.state.service
    keyed = who is not None
    # Together: while Postgres is silent each of them waits as long as it may, and probes have little patience.
    record, buffer, shown, backlog = await asyncio.gather(
        _record(service), _buffer(service), service.balance.read(), _backlog(service)
    )
    standing = Standing(record, _worker(service), buffer)
    if standing.reason is not None:
        response.status_code = 503
    now = datetime.now(UTC)
    troubles = service.troubles.standing
    return Ready(
        status=standing.status,
        reason=standing.reason,
        record=standing.record if standing.buffer else None,
        buffer=standing.buffer,
        troubles={trouble.service: trouble.message if keyed else plainly(trouble) for trouble in troubles},
        troubles_detail={
            trouble.service: TroubleState.of(trouble, help_url=service.settings.help_url, with_words=keyed)
            for trouble in troubles
        },
        backlog=backlog,
        rates={rate.service: Rate.of(rate, now=now) for rate in service.rates()},
        budget=in_a_word(shown) if shown else None,
        credits=Credits.of(shown, over_budget_mrr=service.settings.budget.over_budget_mrr) if shown and keyed else None,
    )


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(401, 404, not_found=SWITCHED_OFF),
    },
    # Beside the two ways to bring a key: none may be needed.
    openapi_extra={"security": [{}]},
)
async def read_metrics(request: Request, who: Annotated[Who | None, Depends(caller)]) -> Response:
    """Counts and times in the Prometheus text format; no ids, no personal data.

    The month's credits are there for whoever brings an API key; with CHURN_RADAR_METRICS_NEED_KEY everything is.
    """
    service: Service = request.app.state.service
    if not service.settings.metrics_enabled:
        raise HTTPException(404, SWITCHED_OFF)
    if service.settings.metrics_need_key:
        await require_key(request, who)
    metrics.backlog(await _backlog(service))
    if service.buffer is not None:
        metrics.buffer((await service.buffer.look()).waiting)
    metrics.rates(service.rates())
    if shown := await service.balance.read():
        metrics.budget(shown.spent.credits, shown.limit)
    text = metrics.exposition(with_credits=who is not None)
    return Response(text, media_type=metrics.MEDIA_TYPE)


async def _record(service: Service) -> str | None:
    """Why the record takes nothing now."""
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
    return reason


def _worker(service: Service) -> str | None:
    """Whether the worker has to be started again. With a buffer, one that only waits for Postgres has not."""
    worker = service.worker
    if worker is None or worker.healthy or (service.buffer is not None and worker.waits):
        return None
    return "the worker has stopped; restart the service"


async def _buffer(service: Service) -> BufferState | None:
    if service.buffer is None:
        return None
    level = await service.buffer.look()
    drained = service.drain.running if service.drain is not None else None
    return BufferState(waiting=level.waiting, problem=level.problem, drained=drained)


async def _backlog(service: Service) -> dict[str, int]:
    """How many jobs wait or run, by step; empty when Postgres does not tell in time."""
    if service.backlog is None:
        return {}
    try:
        async with asyncio.timeout(LONGEST_COUNT_SECONDS):
            return await service.backlog()
    except (TimeoutError, RecordUnavailable):
        return {}
