"""Where the engine is chosen: in memory for a record in one file, on Postgres for any number of replicas.

With the engine come the parts that replicas share, so that who puts the service together chooses once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from churn_radar.customerio.client import SERVICE as CUSTOMERIO
from churn_radar.customerio.track import SERVICE as TRACK
from churn_radar.research.mave import SERVICE as MAVERA
from churn_radar.settings import Settings
from churn_radar.store.postgres import is_postgres
from churn_radar.upstream.pace import Pace, per_minute, per_second
from churn_radar.work.engine import Engine
from churn_radar.work.rush import Rush
from churn_radar.work.tasks import BatchHandler, Handler, Outcome, Step, Task
from churn_radar.work.troubles import Troubles

if TYPE_CHECKING:
    from churn_radar.work.engine_postgres import PostgresEngine
    from churn_radar.work.sweep import Sweep


class RunsSteps(Protocol):
    """What the worker asks of an engine."""

    on_finished: Callable[[Step, int, Outcome], None]

    def register(self, step: Step, handler: Handler, *, concurrency: int) -> None:
        """Let `handler(seq)` do a step."""
        ...

    def register_batches(self, step: Step, handler: BatchHandler, *, concurrency: int, most: int) -> None:
        """Let `handler(seqs)` do a step for several rows at a time."""
        ...

    def enqueue(self, tasks: Sequence[Task]) -> Awaitable[None]:
        """Add work."""
        ...

    def give_way_to(self, rush: Rush) -> None:
        """Take few jobs while events rush in at this process's own door."""
        ...

    def start(self) -> None:
        """Begin to run jobs."""
        ...

    def stop(self, grace: timedelta) -> Awaitable[bool]:
        """Take no new job, and let running ones end."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether jobs are being run."""
        ...

    def backlog(self) -> Awaitable[dict[str, int]]:
        """How many jobs wait or run, by step."""
        ...


@dataclass(frozen=True)
class Machinery:
    """The engine and what goes with it. The paces are None where each client keeps its own.

    `postgres` is the engine once more, where it is the one on Postgres, with the `sweep` that feeds it.
    """

    engine: RunsSteps
    troubles: Troubles = field(default_factory=Troubles)
    customerio_pace: Pace | None = None
    mavera_pace: Pace | None = None
    track_pace: Pace | None = None
    postgres: PostgresEngine | None = None
    sweep: Sweep | None = None


@asynccontextmanager
async def create_engine(settings: Settings) -> AsyncIterator[Machinery]:
    """The engine for the record that the settings name, and what replicas share, for as long as the context lasts.

    The record's schema must be current. Connects to Postgres when first used.
    """
    if not is_postgres(settings.database_url):
        yield Machinery(Engine())
        return
    # Here and not above: a service on a file runs without the driver for Postgres.
    from churn_radar.store.postgres_driver import PatientDriver
    from churn_radar.upstream.shared import SharedPace
    from churn_radar.work.engine_postgres import PostgresEngine
    from churn_radar.work.shared_troubles import SharedTroubles
    from churn_radar.work.sweep import Sweep

    holder = uuid4()
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(PatientDriver(settings.database_url).opened())
        troubles = await stack.enter_async_context(SharedTroubles(driver, holder=holder).following())
        customerio = SharedPace(
            driver,
            CUSTOMERIO,
            per_second(settings.cio_requests_per_second),
            lease_seconds=settings.take_over_seconds,
            holder=holder,
        )
        stack.push_async_callback(customerio.aclose)
        mavera = SharedPace(
            driver,
            MAVERA,
            per_minute(settings.mavera_requests_per_minute),
            concurrency=settings.mavera_concurrency,
            lease_seconds=settings.take_over_seconds,
            holder=holder,
        )
        stack.push_async_callback(mavera.aclose)
        engine = PostgresEngine(driver, heartbeat_timeout=timedelta(seconds=settings.take_over_seconds))
        track = SharedPace(driver, TRACK, per_second(settings.cio_track_requests_per_second), holder=holder)
        stack.push_async_callback(track.aclose)
        yield Machinery(engine, troubles, customerio, mavera, track, engine, Sweep(driver, engine))
