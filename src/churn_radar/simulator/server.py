"""Runs an ASGI app on a real socket inside the current event loop, and stops it at once when done."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from churn_radar.errors import StartError
from churn_radar.sockets import bind

# Name of the ASGI extension by which an app may close its caller's connection without finishing the answer.
HANG_UP = "churn_radar.hang_up"


class _Quiet(uvicorn.Server):
    """A uvicorn server that leaves the process's signals alone and says when it accepts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The process has one owner of SIGINT and SIGTERM, and a stand-in inside it is not that owner.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets=sockets)
        except SystemExit:
            # uvicorn exits when the app's start-up fails; inside somebody else's loop that would end the process.
            raise StartError("the app's own start-up failed") from None
        self.accepting.set()


class _Interruptible:
    """Lets connections be closed at any time, by the app itself or by a stop: uvicorn alone waits for requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.connections: set[Any] = set()
        self.tasks: set[asyncio.Task[object]] = set()
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self.app(scope, receive, send)
            return
        scope["extensions"] = {**scope.get("extensions", {}), HANG_UP: partial(self._hang_up, scope)}
        self.tasks.add(task)
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.stopping:
                raise
        finally:
            self.tasks.discard(task)

    async def _hang_up(self, scope: Scope) -> None:
        await self._close([each for each in self.connections if each.scope is scope])

    async def stop(self) -> None:
        """Close every connection, then cancel what is still under way."""
        self.stopping = True
        await self._close(list(self.connections))
        for task in self.tasks:
            task.cancel()

    async def _close(self, closing: list[Any]) -> None:
        for connection in closing:
            # A caller that has stopped reading would never let the rest of its answer out.
            unsent = connection.transport.get_write_buffer_size() > 0
            connection.transport.abort() if unsent else connection.transport.close()
        # The loop tells a closed transport's protocol in one of its next turns; from then on uvicorn takes an answer
        # that was not finished for one that nobody waits for, and logs no error.
        for _ in range(20):
            if self.connections.isdisjoint(closing):
                break
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve `app` while the block runs; yields its base URL, `http://127.0.0.1:PORT`.

    Port 0 takes a free one. The port is bound before anything starts, so the URL is good as soon as it is known.
    The app's lifespan is run if it has one. On leaving, connections that are still open are closed and requests
    still under way are cancelled, so a request that hangs does not hold up the stop.

    Raises StartError when the port cannot be opened or the app's start-up fails.
    """
    listener = bind(host, port)
    interruptible = _Interruptible(app)
    config = uvicorn.Config(
        interruptible,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = _Quiet(config)
    interruptible.connections = server.server_state.connections
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    accepting = asyncio.create_task(server.accepting.wait())
    try:
        await asyncio.wait({serving, accepting}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        bound_host, bound_port = listener.getsockname()[:2]
        yield f"http://[{bound_host}]:{bound_port}" if ":" in bound_host else f"http://{bound_host}:{bound_port}"
    finally:
        accepting.cancel()
        server.should_exit = True
        # Nobody may come in while the others are shown out.
        for each in getattr(server, "servers", ()):
            each.close()
        await interruptible.stop()
        await asyncio.gather(serving, return_exceptions=True)
        listener.close()
