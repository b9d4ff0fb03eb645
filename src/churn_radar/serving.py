"""Serving HTTP: a bound socket, a uvicorn server, and a stop that lets what is under way finish."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Literal, cast

import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from churn_radar.app import (
    Front,
    Service,
    create_app,
    create_health_app,
    create_waiting_app,
    opened_buffer,
    running_service,
)
from churn_radar.errors import RecordAway, RecordUnavailable, StartError
from churn_radar.intake.door import Door
from churn_radar.settings import Environment, Settings
from churn_radar.short_way import ShortWayProtocol
from churn_radar.sockets import bind
from churn_radar.store.postgres import is_postgres

log = structlog.get_logger(__name__)

PORT_ADVICE = "; stop what uses it, or set CHURN_RADAR_HOST or CHURN_RADAR_PORT"
KEEP_ALIVE_SECONDS = 75
# How long a stop waits for answers that are under way.
GRACE_SECONDS = 5
LOOK_SECONDS = 5.0
# What passes by itself, and how often it is tried again.
AWAY = (RecordAway, RecordUnavailable)
AWAY_SECONDS = 1.0


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to whoever runs it, so that a stop can end with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, after those were let go who watch a page: their connections would stay open for long."""
        if isinstance(self.config.app, Front | Stage):
            self.config.app.end_streams()
        await super().shutdown(sockets)


class Stage:
    """What the server serves: the whole application, or until its record is there an `opening` that takes events."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self.open_door: Door | None = None
        self.complete = False
        self.end_streams: Callable[[], None] = lambda: None

    def open_with(self, opening: ASGIApp) -> None:
        """Let this answer meanwhile."""
        self._app = opening

    def play(self, front: Front) -> None:
        """Let the whole application answer, from now on."""
        self._app, self.open_door, self.complete = front, front.open_door, True
        self.end_streams = front.end_streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whatever is on now."""
        assert self._app is not None  # noqa: S101  the server starts after the first of the two above
        await self._app(scope, receive, send)


def server_for(app: ASGIApp, *, http: Literal["ours", "httptools"] = "ours") -> Server:
    """The server as the service runs it: uvloop where it is, no access log (paths name people).

    `http` is for the benchmarks, which compare with uvicorn's own protocol.
    """

    def protocol(*arguments: Any, **named: Any) -> ShortWayProtocol:
        door = app.open_door if isinstance(app, Front | Stage) else None
        return ShortWayProtocol(*arguments, door=door, **named)

    ours = cast("type[asyncio.Protocol]", protocol)
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            # Whom to believe about who asks is decided where it matters; see churn_radar.access.Proxy.
            proxy_headers=False,
            http=ours if http == "ours" else http,
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


@contextlib.asynccontextmanager
async def listening(server: Server, listener: socket.socket) -> AsyncIterator[str]:
    """Serve on a bound socket while the block runs, which is given the address; then stop, and wait for the stop."""
    host, port = listener.getsockname()[:2]
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await asyncio.wait({serving})


async def serve(settings: Settings, *, with_worker: bool = True) -> None:
    """Run the service until SIGTERM or SIGINT: stop accepting, let running work finish within the grace, return.

    With a buffer the door opens even while the record's server is away; the rest follows when that is back.
    Raises SettingsError or StartError when it cannot start, or then.
    """
    with contextlib.closing(bind(settings.bind_host, settings.port, advice=PORT_ADVICE)) as listener:
        stopping = _on_signals()
        async with opened_buffer(settings) as buffer, contextlib.AsyncExitStack() as stack:

            async def open_all() -> Front:
                opening = running_service(settings, with_worker=with_worker, buffer=buffer)
                return create_app(await stack.enter_async_context(opening))

            stage = Stage()
            try:
                stage.play(await open_all())
            except AWAY as error:
                if buffer is None:
                    raise
                log.warning("service.waits_for_the_record", cause=str(error), hint="the buffer takes events meanwhile")
                stage.open_with(create_waiting_app(settings, buffer))
            if stopping.is_set():
                return
            server = server_for(stage)
            _spare_the_collector()
            host, port = listener.getsockname()[:2]
            if settings.environment is Environment.DEVELOPMENT:
                _warn_of_development(settings)
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="server")
            ending = asyncio.create_task(_end(server, stopping))
            log.info("service.listening", url=f"http://{host}:{port}", docs=settings.docs_enabled)
            try:
                while not (stage.complete or stopping.is_set() or serving.done()):
                    await asyncio.wait({serving}, timeout=AWAY_SECONDS)
                    with contextlib.suppress(*AWAY):
                        stage.play(await open_all())
                await serving
            finally:
                server.should_exit = True
                await asyncio.wait({serving})
                ending.cancel()


async def work(settings: Settings) -> None:
    """Run the worker alone, beside others, until SIGTERM or SIGINT; then let running work finish within the grace.

    Raises SettingsError or StartError when it cannot start, and StartError when its engine has died.
    """
    if not is_postgres(settings.database_url):
        raise StartError(
            "a worker of its own needs a record on Postgres, which processes can share; "
            "on SQLite the worker runs inside `churn-radar serve`"
        )
    stopping = _on_signals()
    async with (
        opened_buffer(settings) as buffer,
        running_service(settings, buffer=buffer) as service,
        watched(settings, service),
    ):
        while not stopping.is_set():
            if service.worker is not None and service.worker.ended:
                raise StartError("the worker's engine has died; its log says what of. Start it again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await stopping.wait()


@contextlib.asynccontextmanager
async def watched(settings: Settings, service: Service) -> AsyncIterator[str | None]:
    """While the block runs, tell probes and Prometheus of a process without a door; where no port is set, nobody.

    The block is given the address, or None. Raises StartError when the port is taken.
    """
    if settings.worker_port is None:
        yield None
        return
    advice = "; stop what uses it, or set CHURN_RADAR_WORKER_PORT"
    with contextlib.closing(bind(settings.bind_host, settings.worker_port, advice=advice)) as listener:
        async with listening(server_for(create_health_app(service)), listener) as url:
            log.info("service.listening", url=url, docs=False)
            yield url


def _spare_the_collector() -> None:
    """Let the garbage collector look less often, and never at what was there from the start.

    Each request makes some hundred objects that go by themselves; looking through them, at the usual thresholds, took
    a tenth of the door's time. Cycles are rare here, and still collected.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, stopping)
    return stopping


def _stop(stopping: asyncio.Event) -> None:
    log.info("service.stopping")
    stopping.set()


async def _end(server: Server, stopping: asyncio.Event) -> None:
    await stopping.wait()
    server.should_exit = True


def _warn_of_development(settings: Settings) -> None:
    open_doors = []
    if not settings.cio_webhook_secret:
        open_doors.append("UNSIGNED webhooks are accepted (no CIO_WEBHOOK_SECRET)")
    if not settings.api_keys:
        open_doors.append("everybody on this machine may read briefs (no CHURN_RADAR_API_KEYS)")
    log.warning("service.development_mode", loopback_only=True, open_doors=open_doors or "none")
