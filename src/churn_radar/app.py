"""The composition root: the one place where real parts are wired together.

Read top to bottom: the service's parts are opened in the order in which an event meets them, then the HTTP
application is put together as a list of routers around them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Receive, Scope, Send

from churn_radar import __version__
from churn_radar.access import Keys, Proxy
from churn_radar.api import (
    audit,
    backfill,
    briefs,
    customers,
    deliveries,
    errors,
    events,
    health,
    openapi,
    outcome_figures,
    outcomes,
    quarantine,
    replays,
    signals,
    waiting,
)
from churn_radar.api.loopback import LoopbackOnly
from churn_radar.buffer.drain import Drain
from churn_radar.buffer.front import BufferFirst
from churn_radar.buffer.open import open_buffer
from churn_radar.buffer.protocol import Buffer
from churn_radar.buffer.watch import Watch
from churn_radar.customerio.client import CustomerioClient
from churn_radar.customerio.gather import GatheredLookUps
from churn_radar.errors import RecordUnavailable
from churn_radar.intake import door as intake_door
from churn_radar.intake.door import Accept, Door
from churn_radar.intake.events import NotASignal
from churn_radar.intake.reading import read_body
from churn_radar.links import brief_page
from churn_radar.migrating import ENGINE
from churn_radar.outcome.links import OutcomeLinks
from churn_radar.research.brief import Brief
from churn_radar.research.mave import MaveClient
from churn_radar.settings import Environment, Settings
from churn_radar.sinks.message import Link, LinksFor
from churn_radar.sinks.protocol import Outlets, Parts, Sink, create_outlets, opened
from churn_radar.store.arrivals import Accepted, Arrival
from churn_radar.store.keys import KEY_BYTES, kept_key
from churn_radar.store.postgres import is_postgres
from churn_radar.store.record import Record, open_record
from churn_radar.store.schema_postgres import require_current
from churn_radar.store.signals import Signal
from churn_radar.throttle import Throttle
from churn_radar.upstream import Pace, RateInForce, per_second
from churn_radar.web.session import Sessions
from churn_radar.web.site import create_pages, is_page
from churn_radar.web.today import Reading
from churn_radar.work.balance import Balance
from churn_radar.work.digests import Digests
from churn_radar.work.engines import Machinery, create_engine
from churn_radar.work.forgotten import Forgotten
from churn_radar.work.joining import JoinRule
from churn_radar.work.live import Live
from churn_radar.work.quarantine import Quarantine, check_folder
from churn_radar.work.redeliver import Redelivered, redeliver
from churn_radar.work.reminders import Reminders
from churn_radar.work.replay import Replayed, replay_all
from churn_radar.work.retention import Retention
from churn_radar.work.rush import Rush
from churn_radar.work.steps import utc_now
from churn_radar.work.tasks import Step, Task
from churn_radar.work.troubles import Troubles
from churn_radar.work.worker import TRIAGE_BATCH, Worker, start_by_hand

log = structlog.get_logger(__name__)

SIGNING_KEY = "signing"


@dataclass
class Service:
    """The parts of one running process."""

    settings: Settings
    record: Record
    forgotten: Forgotten
    door: Door
    worker: Worker | None
    rates: Callable[[], Sequence[RateInForce]] = tuple
    troubles: Troubles = field(default_factory=Troubles)
    backlog: Callable[[], Awaitable[dict[str, int]]] | None = None
    start_work: Callable[[Sequence[Task]], Awaitable[None]] | None = None
    buffer: Watch | None = None
    drain: Drain | None = None
    now: Callable[[], datetime] = utc_now
    sinks: Sequence[Sink] = ()
    customerio_pace: Pace | None = None
    signing_key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES), repr=False)
    keys: Keys = field(init=False, repr=False)
    proxy: Proxy = field(init=False)
    sessions: Sessions = field(init=False, repr=False)
    throttle: Throttle = field(default_factory=Throttle, repr=False)
    outcome_links: OutcomeLinks = field(init=False, repr=False)
    quarantine: Quarantine = field(init=False)
    balance: Balance = field(init=False)
    live: Live = field(init=False, repr=False)
    # Whether it serves the one command of this process and nobody else: no address leads here.
    is_command: bool = False
    _checked: float = field(default=0.0, repr=False)
    _checking: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    def __post_init__(self) -> None:
        """Put together what only needs the parts that were given."""
        self.keys, self.proxy = self.settings.keys, self.settings.proxy
        self.sessions = Sessions(
            self.signing_key,
            idle=timedelta(minutes=self.settings.session_idle_minutes),
            longest=timedelta(hours=self.settings.session_max_hours),
        )
        self.outcome_links = outcome_links(self.settings, self.signing_key)
        self.balance = Balance(self.record, self.settings.budget, self.now)
        self.live = Live(Reading(self))
        self.quarantine = Quarantine(
            self.record,
            folder=self.settings.quarantine_folder,
            max_bytes=self.settings.quarantine_max_megabytes * 1024 * 1024,
            forgotten=self.forgotten,
            now=self.now,
        )

    async def accept(self, arrival: Arrival) -> Accepted:
        """Keep an event that came by hand, unless it is about somebody who was forgotten; raises RecordUnavailable."""
        return await (self.forgotten.kept_out(arrival) or self.record.accept_soon(arrival))

    async def check_record(self) -> None:
        """Prove that the record commits, at most once a second: anyone may ask. Raises RecordUnavailable."""
        try:
            async with asyncio.timeout(self.settings.commit_timeout_seconds), self._checking:
                if time.monotonic() - self._checked > 1:
                    await self.record.check()
                    self._checked = time.monotonic()
        except TimeoutError:
            raise RecordUnavailable("the record takes too long to commit") from None

    async def replay(self, signal: Signal, *, force: bool = False) -> Replayed:
        """Start the work on a stored signal again; raises RecordUnavailable."""
        [replayed] = await self.replay_all([signal], force=force)
        return replayed

    async def replay_all(
        self, chosen: Sequence[Signal], *, force: bool = False, dry_run: bool = False
    ) -> list[Replayed]:
        """Start the work on several signals again, or only tell what that would do; raises RecordUnavailable."""
        return await replay_all(
            self.record,
            chosen,
            alert_events=self.settings.alert_events,
            rule=JoinRule(timedelta(hours=self.settings.cool_down_hours), self.settings.research_stronger_signals),
            now=self.now(),
            force=force,
            dry_run=dry_run,
            forgotten=self.forgotten,
            committed=self._start_replayed,
        )

    async def redeliver(
        self, *, ids: Sequence[int] | None, sink: str | None, before: int | None, limit: int, dry_run: bool
    ) -> Redelivered:
        """Owe dead deliveries again, or only tell how many; raises RecordUnavailable."""
        return await redeliver(
            self.record,
            ids=ids,
            sink=sink,
            before=before,
            limit=limit,
            dry_run=dry_run,
            now=self.now(),
            committed=self._start,
        )

    async def _start_replayed(self, done: Sequence[Replayed]) -> None:
        await self._start(list(dict.fromkeys(task for replayed in done for task in replayed.tasks)))

    async def _start(self, tasks: Sequence[Task]) -> None:
        if self.start_work is not None:
            await self.start_work(tasks)


@asynccontextmanager
async def opened_buffer(settings: Settings) -> AsyncIterator[Buffer | None]:
    """The buffer that the settings name, or None, for as long as the context lasts. Raises SettingsError."""
    if settings.buffer_url is None:
        yield None
    else:
        async with open_buffer(settings.buffer_url.get_secret_value(), settings.buffer_options) as buffer:
            yield buffer


@asynccontextmanager
async def running_service(
    settings: Settings,
    *,
    with_worker: bool = True,
    sinks: Sequence[Sink] | Outlets | None = None,
    buffer: Buffer | None = None,
) -> AsyncIterator[Service]:
    """Open every part, run the work, and close everything in reverse order.

    On Postgres the work may be left to other processes: what the door takes is written down for them. With a `buffer`
    the door puts events there, and a process with a worker brings them into the record.
    Raises SettingsError or StartError when a part cannot be opened; nothing is left half open.
    """
    async with AsyncExitStack() as stack:
        worker: Worker | None = None
        clients: list[CustomerioClient | MaveClient] = []

        def on_accepted(accepted: Sequence[Accepted]) -> None:
            # The work first: telling of it is the less important half.
            if worker is not None:
                worker.accepted(accepted)
            intake_door.tell(accepted)

        check_folder(settings.quarantine_folder)
        outlets = create_outlets(settings) if sinks is None else sinks if isinstance(sinks, Outlets) else Outlets(sinks)
        if is_postgres(settings.database_url):
            # Before anything of it is used.
            await require_current(settings.database_url, ENGINE)
        machinery = await stack.enter_async_context(create_engine(settings))
        shared = machinery.postgres
        # One for all that asks the App API.
        app_pace = machinery.customerio_pace or per_second(settings.cio_requests_per_second)
        record = await stack.enter_async_context(
            open_record(
                settings.database_url,
                on_accepted=on_accepted,
                jobs_of_new=shared.jobs_of_new(Step.TRIAGE, most=TRIAGE_BATCH) if shared is not None else None,
                commit_timeout_seconds=settings.commit_timeout_seconds,
                max_waiting=settings.max_waiting_requests,
                connections=settings.database_connections,
                schema_is_current=True,
            )
        )
        forgotten = Forgotten(record)
        with contextlib.suppress(RecordUnavailable):
            # A door with a buffer starts while Postgres is away; until it is back, triage keeps them out.
            await forgotten.load()
        taken = BufferFirst(buffer, record.accept_soon).accept if buffer else _into(record)
        rush = Rush()
        if with_worker:
            taken = rush.noting(taken)
            machinery.engine.give_way_to(rush)

        def accept(body: bytes, arrival: Arrival) -> Awaitable[Accepted]:
            return forgotten.kept_out(arrival) or taken(body, arrival)

        door = door_of(settings, accept)
        signing_key = await _signing_key(settings, record)
        links = links_of(settings, signing_key)
        if with_worker:
            customerio = CustomerioClient.create(settings, pace=app_pace)
            stack.push_async_callback(customerio.aclose)
            mave = MaveClient.create(settings, pace=machinery.mavera_pace)
            stack.push_async_callback(mave.aclose)
            clients += [customerio, mave]
            look_ups = GatheredLookUps(customerio)
            await stack.enter_async_context(opened(outlets.sinks, Parts(look_ups.look_up, links, machinery.track_pace)))
            worker = Worker(
                settings,
                record,
                customerio=look_ups,
                mave=mave,
                sinks=outlets.sinks,
                filters=outlets.filters,
                machinery=machinery,
                forgotten=forgotten,
            )
            await worker.start()
            stack.push_async_callback(_stop_worker, worker, settings)
        drain = _drain_of(settings, buffer, record, forgotten, rush) if buffer is not None and with_worker else None
        if drain is not None:
            drain.start()
            stack.push_async_callback(drain.stop)
        log.info("service.started", version=__version__, environment=settings.environment.value, worker=with_worker)
        service = Service(
            settings,
            record,
            forgotten,
            door,
            worker,
            rates=lambda: [client.rate_in_force() for client in clients],
            troubles=machinery.troubles,
            # On Postgres the backlog is that of all replicas, whoever asks.
            backlog=machinery.engine.backlog if worker is not None or shared is not None else None,
            start_work=_starting(machinery, worker),
            customerio_pace=app_pace,
            buffer=Watch(buffer, settings.buffer_max_length) if buffer is not None else None,
            drain=drain,
            sinks=outlets.sinks,
            signing_key=signing_key,
        )
        timers = {"quarantine": service.quarantine.keep_bounded()}
        if record.path is None:
            timers["forgotten"] = forgotten.keep_fresh()
        if with_worker:
            timers["retention"] = Retention(
                record, settings.retention_days, audit_days=settings.audit_retention_days
            ).keep_on()
            timers["reminders"] = Reminders(record, outlets.sinks, outlets.filters, links).keep_on()
            timers["digests"] = Digests(
                record,
                outlets.digests,
                outlets.sinks,
                settings.currency,
                settings.public_url,
                [timedelta(seconds=seconds) for seconds in settings.retry_delays_seconds],
            ).keep_on()
        for name, timer in timers.items():
            stack.push_async_callback(_end, asyncio.create_task(timer, name=name))
        yield service
    log.info("service.stopped")


def door_of(settings: Settings, accept: Accept) -> Door:
    """The door by the settings; `accept` is where it puts what it takes."""
    return Door(
        accept,
        secrets=[secret.get_secret_value().encode() for secret in settings.cio_webhook_secret],
        alert_events=settings.kept_events,
        max_body_bytes=settings.max_body_bytes,
        max_bodies_bytes=settings.max_bodies_megabytes * 1024 * 1024,
    )


def _into(record: Record) -> Accept:
    """Straight into the record, which needs no body of what is understood."""
    return lambda body, arrival: record.accept_soon(arrival)


def _drain_of(settings: Settings, buffer: Buffer, record: Record, forgotten: Forgotten, rush: Rush) -> Drain:
    def read(body: bytes, received_at: datetime) -> Arrival | None:
        arrival = read_body(body, settings.kept_events, received_at=received_at)
        return None if isinstance(arrival, NotASignal) else arrival

    def accept_soon(arrival: Arrival) -> asyncio.Future[Accepted]:
        return forgotten.kept_out(arrival) or record.accept_soon(arrival)

    return Drain(
        buffer,
        accept_soon,
        read,
        ready=record.check,
        gives_way=rush.give_way,
        hold_seconds=settings.buffer_hold_seconds,
    )


async def _signing_key(settings: Settings, record: Record) -> bytes:
    """What sessions and links are signed with: the operator's, else the record's own."""
    if settings.session_secret is not None:
        return settings.session_secret.get_secret_value().encode()
    try:
        return await kept_key(record, SIGNING_KEY)
    except RecordUnavailable as error:
        # The door must open all the same. At the next start the record has room for one again.
        log.warning("service.no_signing_key", cause=str(error), hint="log-ins and links end with this process")
        return secrets.token_bytes(KEY_BYTES)


def links_of(settings: Settings, signing_key: bytes | None = None) -> LinksFor:
    """What the messages about a brief link to: its page, and, with a key to sign them, what may have become of it."""
    outcomes = outcome_links(settings, signing_key) if signing_key is not None else None

    async def links(brief: Brief) -> Sequence[Link]:
        page = brief_page(settings.public_url, brief.id)
        urls = outcomes.urls(brief.id, utc_now()) if outcomes is not None else {}
        return [Link("Open the brief", page), *(Link(f"Mark as {o.label}", urls[o]) for o in urls)] if page else []

    return links


def outcome_links(settings: Settings, signing_key: bytes) -> OutcomeLinks:
    """Links that say what became of a customer."""
    return OutcomeLinks(signing_key, settings.public_url, timedelta(days=settings.outcome_link_days))


def _starting(machinery: Machinery, worker: Worker | None) -> Callable[[Sequence[Task]], Awaitable[None]] | None:
    """How work is started that somebody asks for by hand; None where it has to wait until a worker starts."""
    if worker is not None:
        return worker.replayed
    shared = machinery.postgres
    if shared is None:
        return None

    async def for_others(tasks: Sequence[Task]) -> None:
        await start_by_hand(machinery.troubles, shared.enqueue, tasks, utc_now())

    return for_others


async def _stop_worker(worker: Worker, settings: Settings) -> None:
    finished = await worker.stop(timedelta(seconds=settings.shutdown_grace_seconds))
    if not finished:
        log.warning("work.interrupted", hint="calls under way were cut off; they are made again at the next start")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


class Front:
    """What uvicorn serves: the door for its one path, before any middleware; the pages; the API for everything else.

    A proxy may serve all of it below a prefix, and pass that on or take it away.
    """

    def __init__(
        self,
        app: FastAPI,
        door: ASGIApp,
        pages: ASGIApp,
        *,
        prefix: str = "",
        proxy: Proxy | None = None,
    ) -> None:
        self.app = app
        # Called before the server stops: it waits for its connections, and those of who watches a page end never.
        self.end_streams: Callable[[], None] = lambda: None
        self._door = door
        self._pages = pages
        self._prefix = prefix
        self._proxy = proxy or Proxy()

    @property
    def open_door(self) -> Door | None:
        """The door, where nothing stands before it: then the server may ask it without the rest."""
        return self._door if isinstance(self._door, Door) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # First and by itself: this is asked thousands of times a second.
        if scope["path"].rstrip("/") == intake_door.PATH:
            await self._door(scope, receive, send)
            return
        prefix = self._told_prefix(scope) or self._prefix
        path: str = scope["path"]
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):
            path = path[len(prefix) :]
            if path.rstrip("/") == intake_door.PATH:
                await self._door(scope, receive, send)
                return
        # Load balancers ask by HEAD: as GET, whose body the server leaves out (RFC 9110, section 9.3.2).
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        # By ASGI the prefix is in both.
        scope = {**scope, "method": method, "root_path": prefix, "path": prefix + (path or "/")}
        await (self._pages if is_page(path) else self.app)(scope, receive, send)

    def _told_prefix(self, scope: Scope) -> str | None:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
        return self._proxy.prefix(scope["client"][0], given) if given and scope.get("client") else None


def create_waiting_app(settings: Settings, buffer: Buffer) -> Front:
    """What is served before the record is there: the door, into the buffer; everything else says so."""
    app = FastAPI(title="churn_radar", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    watch = Watch(buffer, settings.buffer_max_length)
    # Who may see what needs a key is not looked up here.
    open_metrics = settings.metrics_enabled and not settings.metrics_need_key
    app.include_router(waiting.router_of(watch, metrics_enabled=open_metrics))
    errors.install(app)
    return _front(settings, app, door_of(settings, BufferFirst(buffer, None).accept), pages=app)


def create_health_app(service: Service) -> FastAPI:
    """What a process without a door answers: whether it is alive and well, and its figures."""
    app = FastAPI(title="churn_radar", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    app.include_router(health.router)
    errors.install(app)
    if service.settings.environment is Environment.DEVELOPMENT:
        app.add_middleware(LoopbackOnly)
    return app


def create_app(service: Service) -> Front:
    """The whole HTTP application around a running service."""
    settings = service.settings
    make = FastAPIOffline if settings.docs_enabled else FastAPI
    app: FastAPI = make(
        title="churn_radar",
        version=__version__,
        description=openapi.DESCRIPTION,
        docs_url="/docs" if settings.docs_enabled else None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs_enabled else None,
        swagger_ui_parameters={"persistAuthorization": True, "tryItOutEnabled": True},
    )
    app.state.service = service
    for room in (
        events,
        briefs,
        signals,
        replays,
        backfill,
        deliveries,
        quarantine,
        outcome_figures,
        outcomes,
        customers,
        audit,
        health,
    ):
        app.include_router(room.router)
    errors.install(app)
    openapi.install(app)
    front = _front(settings, app, service.door, create_pages(service))
    front.end_streams = service.live.close
    return front


def _front(settings: Settings, app: FastAPI, door: ASGIApp, pages: ASGIApp) -> Front:
    if settings.environment is Environment.DEVELOPMENT:
        app.add_middleware(LoopbackOnly)
        pages = LoopbackOnly(pages)
        if not settings.cio_webhook_secret:
            # A signature proves more than a name: with one, webhooks may come in through a tunnel.
            door = LoopbackOnly(door)
    return Front(app, door, pages, prefix=settings.path_prefix, proxy=settings.proxy)
