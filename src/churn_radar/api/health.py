"""Is it alive, can it accept, what is it doing: for load balancers, operators and Prometheus."""

from __future__ import annotations

import shutil

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from churn_radar import __version__, metrics
from churn_radar.api.errors import documented
from churn_radar.errors import RecordUnavailable

router = APIRouter(tags=["health"])

LEAST_FREE_BYTES = 64 * 1024 * 1024
SWITCHED_OFF = "metrics are switched off (CHURN_RADAR_METRICS_ENABLED)"


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"
    version: str = __version__


class Ready(BaseModel):
    """Whether events can be accepted, and what else an operator should know."""

    status: str = Field(description="ready or unavailable.")
    reason: str | None = Field(None, description="Why events cannot be accepted.")
    troubles: dict[str, str] = Field(
        default_factory=dict, description="What only the operator can mend, by service; work waits meanwhile."
    )
    backlog: dict[str, int] = Field(default_factory=dict, description="Jobs that wait or run, by step.")


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
    """Commits to the record (at most once a second) and looks at the free disk space."""
    service = request.app.state.service
    reason: str | None = None
    try:
        free = shutil.disk_usage(service.record.path.parent).free
        if free < LEAST_FREE_BYTES:
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
    return Ready(
        status="unavailable" if reason else "ready",
        reason=reason,
        troubles=service.worker.floor.troubles.current if service.worker else {},
        backlog=await service.worker.backlog() if service.worker else {},
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
    return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
