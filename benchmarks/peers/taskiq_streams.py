"""Taskiq on Redis streams, with its receiver in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from benchmarks.peers.common import AT_ONCE, open_pool, options, read, serve, work

told = options()
# What a dead receiver had begun is claimed after ten minutes by default; here after ten seconds.
broker = RedisStreamBroker(told.redis, idle_timeout=10_000, unacknowledged_batch_size=1000)


@broker.task(task_name="process")
async def process(event_id: str) -> None:
    """Do the work."""
    await work(app.state.pool, event_id)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect, and start the receiver."""
    app.state.pool = await open_pool(told.postgres)
    await broker.startup()
    working = asyncio.create_task(run_receiver_task(broker, max_async_tasks=AT_ONCE))
    yield
    working.cancel()


app = FastAPI(openapi_url=None, lifespan=lifespan)


@app.post("/webhooks/customerio")
async def accept(request: Request) -> dict[str, str]:
    """Queue the work, then answer."""
    event_id = await read(request)
    await process.kiq(event_id)
    return {"status": "accepted", "event_id": event_id}


if __name__ == "__main__":
    serve(app)
