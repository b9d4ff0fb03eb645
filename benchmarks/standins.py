"""Both upstream stand-ins in a process of their own, with a generated workspace and a log of every call.

The times in the log are those of the monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import dataclass, field

import uvloop
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks.people import people
from churn_radar.simulator.customerio import CustomerioSimulation, create_customerio
from churn_radar.simulator.mavera import MaveraSimulation, create_mavera
from churn_radar.simulator.server import running

CALLS = "/_bench/calls"


@dataclass
class Watched:
    """An ASGI app, and when each call to it began and was answered, with the answer's status."""

    app: ASGIApp
    calls: list[list[float]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_simulator"):
            await self.app(scope, receive, send)
            return
        if scope["path"] == CALLS:
            await JSONResponse(self.calls)(scope, receive, send)
            return
        call = [time.monotonic(), 0.0, 0]
        self.calls.append(call)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                call[1:] = [time.monotonic(), message["status"]]
            await send(message)

        await self.app(scope, receive, noting)


def _between(text: str) -> tuple[float, float]:
    low, _, high = text.partition(",")
    return float(low), float(high or low)


async def main() -> None:
    """Serve both on free ports of 127.0.0.1, print their URLs, end on SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.standins", description=__doc__)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--worth-researching", type=float, default=0.6)
    parser.add_argument("--customerio-latency", type=_between, default=(0.02, 0.08), metavar="LOW,HIGH")
    parser.add_argument("--mavera-latency", type=_between, default=(0.5, 9.0), metavar="LOW,HIGH")
    parser.add_argument("--mavera-requests-per-minute", type=int, default=60)
    told = parser.parse_args()
    workspace = people(told.people, worth_researching=told.worth_researching)
    customerio = Watched(
        create_customerio(CustomerioSimulation(people=workspace, latency_seconds=told.customerio_latency))
    )
    mavera = Watched(
        create_mavera(
            MaveraSimulation(
                requests_per_minute=told.mavera_requests_per_minute, latency_seconds=told.mavera_latency, time_scale=1
            )
        )
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        for app in (customerio, mavera):
            sys.stdout.write(f"{await stack.enter_async_context(running(app))}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
