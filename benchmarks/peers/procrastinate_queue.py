"""Procrastinate: a queue on Postgres, with its worker in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException

from benchmarks.peers.common import AT_ONCE, open_pool, options, read, serve, work

told = options()
queue = App(connector=PsycopgConnector(conninfo=told.postgres, min_size=4, max_size=20))


@queue.task(name="process")
async def process(event_id: str) -> None:
    """Do the work."""
    await work(app.state.pool, event_id)


@queue.periodic(cron="* * * * * */5")
@queue.task(name="rescue", queueing_lock="rescue")
async def rescue(timestamp: int) -> None:
    """Start again what a dead worker had begun, as its documentation advises."""
    for job in await queue.job_manager.get_stalled_jobs(seconds_since_heartbeat=15):
        await queue.job_manager.retry_job(job)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect, and start the worker."""
    app.state.pool = await open_pool(told.postgres)
    async with queue.open_async():
        with suppress(ConnectorException):  # it is there already
            await queue.schema_manager.apply_schema_async()
        working = asyncio.create_task(queue.run_worker_async(concurrency=AT_ONCE, install_signal_handlers=False))
        yield
        working.cancel()


app = FastAPI(openapi_url=None, lifespan=lifespan)


@app.post("/webhooks/customerio")
async def accept(request: Request) -> dict[str, str]:
    """Queue the work, then answer."""
    event_id = await read(request)
    await process.defer_async(event_id=event_id)
    return {"status": "accepted", "event_id": event_id}


if __name__ == "__main__":
    serve(app)
