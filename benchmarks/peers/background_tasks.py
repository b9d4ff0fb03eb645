"""FastAPI's own BackgroundTasks: work that is in memory alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, Request

from benchmarks.peers.common import AT_ONCE, open_pool, options, read, serve, work


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect."""
    app.state.pool = await open_pool(options().postgres)
    app.state.places = asyncio.Semaphore(AT_ONCE)
    yield


app = FastAPI(openapi_url=None, lifespan=lifespan)


async def process(event_id: str) -> None:
    """Do the work, so many at once."""
    async with app.state.places:
        await work(app.state.pool, event_id)


@app.post("/webhooks/customerio")
async def accept(request: Request, tasks: BackgroundTasks) -> dict[str, str]:
    """Answer, and do the work afterwards."""
    event_id = await read(request)
    tasks.add_task(process, event_id)
    return {"status": "accepted", "event_id": event_id}


if __name__ == "__main__":
    serve(app)
