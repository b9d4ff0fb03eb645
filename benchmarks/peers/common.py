"""What every peer does alike: read and check a webhook, the work on one event, and a server on a free port."""

from __future__ import annotations

import argparse
import asyncio
import sys

import asyncpg
import orjson
import uvloop
from fastapi import FastAPI, HTTPException, Request

from benchmarks.processes import SECRET
from churn_radar.intake.signature import sign
from churn_radar.serving import server_for
from churn_radar.sockets import bind

# The work on one event: as long as a quick call to another service, then a row that shows it was done.
WORK_SECONDS = 0.05
AT_ONCE = 50
TABLE = "CREATE TABLE IF NOT EXISTS processed (event_id text PRIMARY KEY)"
_DONE = "INSERT INTO processed VALUES ($1) ON CONFLICT DO NOTHING"


def options() -> argparse.Namespace:
    """The URLs that a peer is started with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--redis", default="")
    return parser.parse_args()


async def read(request: Request) -> str:
    """The event id of a signed webhook; raises HTTPException when it is not genuine."""
    body = await request.body()
    timestamp = request.headers.get("x-cio-timestamp", "").encode()
    if request.headers.get("x-cio-signature") != sign(SECRET.encode(), body, timestamp):
        raise HTTPException(401)
    event_id: str = orjson.loads(body)["event_id"]
    return event_id


async def open_pool(url: str) -> asyncpg.Pool:
    """Connections for the work, and the table of what was done."""
    pool = await asyncpg.create_pool(url, max_size=10)
    await pool.execute(TABLE)
    return pool


async def work(pool: asyncpg.Pool, event_id: str) -> None:
    """The work on one event."""
    await asyncio.sleep(WORK_SECONDS)
    await pool.execute(_DONE, event_id)


def serve(app: FastAPI) -> None:
    """Serve on a free port and print it, under the settings that the service itself has."""

    async def main() -> None:
        listener = bind("127.0.0.1", 0)
        server = server_for(app, http="httptools")
        server.config.lifespan = "on"
        print(listener.getsockname()[1], file=sys.stdout, flush=True)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
