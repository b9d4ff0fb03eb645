"""What a process with a buffer answers that was started while its record is away: events are taken, all else waits.

So a door can be restarted, or moved to another machine, in the middle of a database's upgrade.
"""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response

from churn_radar import metrics
from churn_radar.api.health import Alive, healthz
from churn_radar.api.readiness import BufferState, Ready, Standing
from churn_radar.buffer.watch import Watch

AWAY = "the record was away at the start and is waited for"
RETRY_AFTER = {"Retry-After": "5"}


def router_of(watch: Watch, *, metrics_enabled: bool) -> APIRouter:
    """The routes."""
    router = APIRouter()
    router.add_api_route("/healthz", healthz, response_model=Alive)

    @router.get("/readyz")
    async def readyz(response: Response) -> Ready:
        level = await watch.look()
        standing = Standing(AWAY, None, BufferState(waiting=level.waiting, problem=level.problem))
        if standing.reason is not None:
            response.status_code = 503
        return Ready(status=standing.status, reason=standing.reason, record=standing.record, buffer=standing.buffer)

    if metrics_enabled:

        @router.get("/metrics", response_class=Response)
        async def read_metrics() -> Response:
            metrics.buffer((await watch.look()).waiting)
            return Response(metrics.exposition(with_credits=False), media_type=metrics.MEDIA_TYPE)

    @router.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def not_yet(path: str) -> None:
        raise HTTPException(503, f"{AWAY}; events are taken meanwhile", headers=RETRY_AFTER)

    return router
