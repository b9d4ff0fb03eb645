"""The reference: a FastAPI POST that reads the body and returns a dict, under the service's own uvicorn settings.

It runs on uvicorn's own HTTP protocol, as anybody's does; with `--one-write` on that of `churn_radar.one_write`.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from fastapi import FastAPI, Request

from churn_radar.serving import server_for
from churn_radar.sockets import bind

app = FastAPI(openapi_url=None)


@app.post("/webhooks/customerio")
async def accept(request: Request) -> dict[str, str]:
    """Read the body, do nothing."""
    body = await request.body()
    return {"status": "accepted", "event_id": str(len(body))}


async def main(*, one_write: bool) -> None:
    """Serve on a free port and print it."""
    listener = bind("127.0.0.1", 0)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    server = server_for(app) if one_write else server_for(app, http="httptools")
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(one_write="--one-write" in sys.argv))
