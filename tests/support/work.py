"""A workshop for the steps (a real record, both upstreams simulated, time by hand), and a whole service on sockets."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import structlog
from sqlalchemy import select

from churn_radar import logs
from churn_radar.app import Service, create_app, opened_buffer, running_service
from churn_radar.customerio.client import CustomerioClient
from churn_radar.intake.events import ChurnEvent, to_arrival, understand
from churn_radar.intake.payload import Event
from churn_radar.research.brief import Brief
from churn_radar.research.mave import MaveClient
from churn_radar.settings import IsolatedSettings, Settings
from churn_radar.simulator.customerio import CustomerioSimulation, CustomerioState, create_customerio
from churn_radar.simulator.faults import Faults
from churn_radar.simulator.mavera import MaveraSimulation, MaveraState, create_mavera
from churn_radar.simulator.people import PEOPLE, Person
from churn_radar.simulator.server import running
from churn_radar.sinks.protocol import Outlets, Sink
from churn_radar.store.arrivals import Arrival
from churn_radar.store.briefs import list_briefs
from churn_radar.store.deliveries import Delivery, deliveries_of
from churn_radar.store.record import Record, open_record
from churn_radar.store.signals import Signal, history, load_signal
from churn_radar.store.tables import signals
from churn_radar.upstream import FREE_TURN, Turn
from churn_radar.work.deliver import DeliverStep
from churn_radar.work.joining import JoinRule
from churn_radar.work.replay import Replayed, replay
from churn_radar.work.research import ResearchStep
from churn_radar.work.spending import Spending
from churn_radar.work.steps import Floor
from churn_radar.work.tasks import Outcome, Step, Task
from churn_radar.work.triage import TriageStep
from tests.support.door import PATIENT_SECONDS, stuck
from tests.support.place import current

T = TypeVar("T")

KEY = "an-api-key-of-the-tests"
SECRET = "a-signing-key-of-the-tests"
APP_KEY = "demo-app-key"
MAVERA_KEY = "mvra_live_demo"
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

_numbers = itertools.count(1)
# Nothing here speaks TLS, and making a context takes longer than most tests.
_TLS = ssl.create_default_context()


def settings_for(folder: Path, **told: Any) -> Settings:
    """Production's settings, with a record in `folder` and no wait longer than a moment; a commit may take its time."""
    settings = IsolatedSettings(
        **{
            "cio_app_key": APP_KEY,
            "cio_webhook_secret": SECRET,
            "mavera_api_key": MAVERA_KEY,
            "api_keys": KEY,
            **current().settings(folder),
            # Else, on Postgres, it would be the working folder, where one test's files meet the next one.
            "quarantine_folder": folder,
            "retry_delays_seconds": (0.01, 0.01, 0.01),
            "in_call_attempts": 1,
            "unknown_customer_retry_seconds": 0.01,
            "cio_requests_per_second": 1000,
            "mavera_requests_per_minute": 6000,
            "shutdown_grace_seconds": 1,
            **told,
        }
    )
    # Longer than a setting may be.
    patient = {} if "commit_timeout_seconds" in told else {"commit_timeout_seconds": PATIENT_SECONDS}
    return settings.model_copy(update=patient)


def payload(customer_id: str | None = "cust_1001", metric: str = "unsubscribed", **told: Any) -> dict[str, Any]:
    """An event of its own as Customer.io documents it; `told` replaces top-level keys."""
    return {
        "event_id": f"01KTESTS{next(_numbers):018d}",
        "object_type": "customer" if metric == "unsubscribed" else "email",
        "metric": metric,
        "timestamp": 1_795_500_000,
        "data": {"customer_id": customer_id, "identifiers": {"id": customer_id, "email": None, "cio_id": None}},
        **told,
    }


def known_by(**identifiers: str) -> dict[str, Any]:
    """An event that names its customer by these identifiers only."""
    return payload(data={"identifiers": identifiers})


class Clock:
    """Time by hand."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, delta: timedelta) -> None:
        """Let time pass."""
        self.now += delta


class NoPace:
    """Every call may go out at once."""

    calls, seconds, taken = 1_000_000, 1.0, None

    async def wait(self) -> Turn:
        return FREE_TURN

    def keep_to(self, calls: int) -> None:
        return

    def stay_away(self, seconds: float) -> None:
        return


@dataclass
class ListSink:
    """Keeps what it is handed; raises the errors that it was given first."""

    name: str = "list"
    errors: list[BaseException] = field(default_factory=list)
    briefs: list[Brief] = field(default_factory=list)
    calls: int = 0

    async def deliver(self, brief: Brief) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        self.briefs.append(brief)


@dataclass
class Workshop:
    """The steps by themselves: each is called by hand, and what they would enqueue is only noted."""

    settings: Settings
    record: Record
    clock: Clock
    floor: Floor
    triage: TriageStep
    research: ResearchStep
    deliver: DeliverStep
    sinks: list[Sink]
    customerio: CustomerioState
    mavera: MaveraState
    customerio_faults: Faults
    mavera_faults: Faults
    enqueued: list[Task]
    slept: list[float]

    async def arrive(self, event: Mapping[str, Any], *, force: str | None = None) -> int:
        """Accept an event as the door does; returns its row."""
        understood = understand(Event.model_validate(event), self.settings.kept_events)
        assert isinstance(understood, ChurnEvent)
        arrival = to_arrival(understood, received_at=self.clock(), source="webhook", force_salt=force)
        return await self.accept(arrival)

    async def accept(self, arrival: Arrival) -> int:
        """Store an arrival; returns its row."""
        await self.record.accept(arrival)
        async with self.record.read() as connection:
            found = await connection.execute(select(signals.c.seq).where(signals.c.event_key == arrival.event_key))
            return int(found.scalar_one())

    async def signal(self, seq: int) -> Signal:
        """Where a signal stands."""
        async with self.record.read() as connection:
            signal = await load_signal(connection, seq)
        assert signal is not None
        return signal

    async def story(self, seq: int) -> list[str]:
        """The statuses a signal went through."""
        async with self.record.read() as connection:
            return [step.status for step in await history(connection, await self.signal(seq))]

    async def briefs(self) -> list[Brief]:
        """Every brief, newest first."""
        async with self.record.read() as connection:
            return [stored.brief for stored in await list_briefs(connection, limit=1000)]

    async def deliveries(self, brief_seq: int = 1) -> dict[str, Delivery]:
        """The deliveries of a brief, by sink."""
        async with self.record.read() as connection:
            return {delivery.sink: delivery for delivery in await deliveries_of(connection, brief_seq)}

    async def briefed(self, event: Mapping[str, Any]) -> int:
        """An event carried all the way to its brief; returns the signal's row."""
        seq = await self.arrive(event)
        await self.triage(seq)
        await self.research(seq)
        assert (await self.signal(seq)).status == "briefed"
        return seq

    @property
    def join_rule(self) -> JoinRule:
        """Who shares whose brief, by the settings."""
        return JoinRule(timedelta(hours=self.settings.cool_down_hours), self.settings.research_stronger_signals)

    async def replay(self, seq: int, *, force: bool = False) -> Replayed:
        """Replay one signal."""
        signal = await self.signal(seq)
        return await self.record.write(
            lambda connection: replay(
                connection,
                signal,
                alert_events=self.settings.alert_events,
                rule=self.join_rule,
                now=self.clock(),
                force=force,
            )
        )

    async def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Do the steps that were asked for."""
        steps: dict[Step, Callable[[int], Awaitable[Outcome]]] = {
            Step.TRIAGE: self.triage,
            Step.RESEARCH: self.research,
            Step.DELIVER: self.deliver,
        }
        return [await steps[task.step](task.seq) for task in tasks]


def _client(app: Any, base_url: str, key: str, timeout_seconds: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url=base_url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=timeout_seconds,
    )


@asynccontextmanager
async def workshop(
    folder: Path,
    *,
    people: Sequence[Person] = PEOPLE,
    sinks: Sequence[Sink] = (),
    timeout_seconds: float = PATIENT_SECONDS,
    app_key: str = APP_KEY,
    mavera: MaveraSimulation | None = None,
    **told: Any,
) -> AsyncIterator[Workshop]:
    """A workshop on a fresh record; `told` are settings."""
    settings = settings_for(folder, **told)
    simulation = CustomerioSimulation(latency_seconds=(0, 0), requests_per_second=10_000, people=tuple(people))
    mave = mavera or MaveraSimulation()
    mave.time_scale, mave.requests_per_minute = 0, 6000
    customerio_app, mavera_app = create_customerio(simulation), create_mavera(mave)
    clock, enqueued, slept = Clock(), list[Task](), list[float]()

    async def note(tasks: Sequence[Task]) -> None:
        enqueued.extend(tasks)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.forward(timedelta(seconds=seconds))
        await asyncio.sleep(0)

    async with AsyncExitStack() as stack:
        record = await stack.enter_async_context(open_record(settings.database_url))
        customerio = CustomerioClient(
            await stack.enter_async_context(
                _client(customerio_app, "http://customerio.example/v1/", app_key, timeout_seconds)
            ),
            pace=NoPace(),
            attempts=1,
            deadline_margin_seconds=0,
        )
        mave_client = MaveClient(
            await stack.enter_async_context(
                _client(mavera_app, "http://mavera.example/api/v1/", MAVERA_KEY, timeout_seconds)
            ),
            pace=NoPace(),
            attempts=1,
            deadline_margin_seconds=0,
        )
        floor = Floor(
            record=record,
            enqueue=note,
            retry_delays=[timedelta(seconds=seconds) for seconds in settings.retry_delays_seconds],
            now=clock,
            sleep=sleep,
        )
        yield Workshop(
            settings=settings,
            record=record,
            clock=clock,
            floor=floor,
            triage=TriageStep(
                floor,
                customerio,
                settings.triage_rules,
                cool_down=timedelta(hours=settings.cool_down_hours),
                unknown_retry=timedelta(seconds=settings.unknown_customer_retry_seconds),
                fresh_for=timedelta(minutes=settings.look_up_cache_minutes),
                stronger_anew=settings.research_stronger_signals,
            ),
            research=ResearchStep(
                floor,
                mave_client,
                Outlets(sinks).routes,
                settings.currency,
                Spending(floor, settings.budget),
                reuse=timedelta(days=settings.reuse_research_days),
                tell_outcomes=settings.tell_mave_outcomes,
            ),
            deliver=DeliverStep(floor, {sink.name: sink for sink in sinks}),
            sinks=list(sinks),
            customerio=customerio_app.state.simulation,
            mavera=mavera_app.state.simulation,
            customerio_faults=simulation.faults,
            mavera_faults=mave.faults,
            enqueued=enqueued,
            slept=slept,
        )


@dataclass
class Running:
    """A whole service on a real socket, with both upstreams simulated on theirs; `http` holds its key."""

    url: str
    http: httpx.AsyncClient
    stranger: httpx.AsyncClient
    service: Service
    customerio: CustomerioState
    mavera: MaveraState
    customerio_faults: Faults
    mavera_faults: Faults

    async def post(self, event: Mapping[str, Any], *, force: bool = False) -> str:
        """Feed an event in by hand; returns its id."""
        answer = await self.http.post("/events", json=event, params={"force": "true"} if force else None)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "accepted", answer.text
        return str(answer.json()["event_id"])

    async def becomes(self, event_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until a signal stands at one of `statuses`; returns what the API tells of it."""

        async def stands() -> dict[str, Any] | None:
            told: dict[str, Any] = (await self.http.get(f"/signals/{event_id}")).json()
            return told if told["status"] in statuses else None

        return await until(stands, f"{event_id} to be {' or '.join(statuses)}")

    async def briefed(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Feed an event in and wait for its brief; returns what the API tells of the signal."""
        return await self.becomes(await self.post(event), "briefed")


async def until(probe: Callable[[], Awaitable[T | None]], wanted: str, *, seconds: float = PATIENT_SECONDS) -> T:
    """What `probe` answers once it answers anything but None or False; fails after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while loop.time() < deadline:
        if answer := await probe():
            return answer
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited {seconds} seconds in vain for {wanted}")


@asynccontextmanager
async def service(
    folder: Path,
    *,
    people: Sequence[Person] = PEOPLE,
    sinks: Sequence[Sink] | Outlets | None = (),
    with_worker: bool = True,
    app_key: str = APP_KEY,
    mavera: MaveraSimulation | None = None,
    customerio_faults: Faults | None = None,
    mavera_allows: int = 6000,
    **told: Any,
) -> AsyncIterator[Running]:
    """The service as `churn-radar serve` runs it, and a client that holds its key; `told` are settings."""
    simulation = CustomerioSimulation(
        app_key=app_key,
        latency_seconds=(0, 0),
        requests_per_second=10_000,
        people=tuple(people),
        faults=customerio_faults or Faults(),
    )
    mave = mavera or MaveraSimulation()
    mave.time_scale, mave.requests_per_minute = 0, mavera_allows
    customerio_app, mavera_app = create_customerio(simulation), create_mavera(mave)
    async with AsyncExitStack() as stack:
        customerio_url = await stack.enter_async_context(running(customerio_app))
        mavera_url = await stack.enter_async_context(running(mavera_app))
        settings = settings_for(
            folder, **{"cio_app_url": f"{customerio_url}/v1", "mavera_url": f"{mavera_url}/api/v1", **told}
        )
        buffer = await stack.enter_async_context(opened_buffer(settings))
        live = await stack.enter_async_context(
            running_service(settings, with_worker=with_worker, sinks=sinks, buffer=buffer)
        )
        url = await stack.enter_async_context(running(create_app(live)))

        async def client(headers: Mapping[str, str]) -> httpx.AsyncClient:
            made = httpx.AsyncClient(
                base_url=url, headers=headers, timeout=PATIENT_SECONDS, trust_env=False, verify=_TLS
            )
            return await stack.enter_async_context(made)

        yield Running(
            url=url,
            http=await client({"X-API-Key": KEY}),
            stranger=await client({}),
            service=live,
            customerio=customerio_app.state.simulation,
            mavera=mavera_app.state.simulation,
            customerio_faults=simulation.faults,
            mavera_faults=mave.faults,
        )


@contextmanager
def waiting_in_vain(live: Running) -> Iterator[None]:
    """Another program holds the record's file, and the service does not wait long for it."""
    usual = live.service.settings
    live.service.settings = usual.model_copy(update={"commit_timeout_seconds": 0.3})
    live.service._checked = 0
    try:
        with stuck(live.service.record):
            yield
    finally:
        live.service.settings = usual


@contextmanager
def logged(folder: Path, out: io.StringIO | None = None, **told: Any) -> Iterator[io.StringIO]:
    """Logging as the service sets it up, into memory (or `out`); `told` are settings."""
    root = logging.getLogger()
    named = [
        logging.getLogger(name) for name in ("httpx", "httpcore", "asyncio", "pgqueuer", "uvicorn", "uvicorn.error")
    ]
    before = (root.handlers[:], root.level, [logger.level for logger in named])
    out = io.StringIO() if out is None else out
    logs.configure(settings_for(folder, **{"log_format": "json", "log_level": "debug", **told}), out)
    try:
        yield out
    finally:
        structlog.reset_defaults()
        root.handlers[:], root.level, levels = before
        for logger, level in zip(named, levels, strict=True):
            logger.setLevel(level)
