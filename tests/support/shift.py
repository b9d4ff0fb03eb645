"""A worker at work on a real record, with both upstreams played: what it asks of them is noted, and may be held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from churn_radar.intake.events import ChurnEvent, to_arrival, understand
from churn_radar.intake.payload import Event
from churn_radar.research.mave import MaveAnswer
from churn_radar.sinks.protocol import Sink
from churn_radar.store.arrivals import Accepted
from churn_radar.store.record import Record, open_record
from churn_radar.store.signals import Signal, find_signal
from churn_radar.store.tables import Status, signals
from churn_radar.triage.customer import CustomerRef, Profile
from churn_radar.work.steps import utc_now
from churn_radar.work.worker import Worker
from tests.support.work import settings_for, until

GRACE = timedelta(seconds=5)


@dataclass
class Upstreams:
    """Both upstream services, as the steps see them."""

    mrr: dict[str, str] = field(default_factory=dict)
    looked_up: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    async def look_up(self, ref: CustomerRef) -> Profile | None:
        """Everybody is known."""
        name = ref.preferred[1]
        self.looked_up.append(name)
        # The id itself would be taken out of the prompt.
        return Profile(
            CustomerRef(name), {"plan_type": "pro", "mrr": self.mrr.get(name, "100"), "industry": name[::-1]}
        )

    async def ask(self, message: str) -> MaveAnswer:
        """The errors first, then always the same."""
        [persona] = [line for line in message.splitlines() if line.startswith("PERSONA TYPE: ")]
        self.asked.append(persona)
        await self.may_answer.wait()
        if self.errors:
            raise self.errors.pop(0)
        return MaveAnswer("## Why they churn\n\nThey do.", credits_used=40)

    async def follow_up(self, message: str, thread_id: str) -> MaveAnswer:
        """Not asked for."""
        raise AssertionError("research is built upon only where that is set")


@dataclass
class Shift:
    """A worker at work on a record."""

    record: Record
    worker: Worker
    now: Callable[[], datetime] = utc_now

    async def arrive(self, *events: dict[str, Any]) -> list[str]:
        """Events at the door; returns their ids."""
        ids = []
        for event in events:
            understood = understand(Event.model_validate(event), ("unsubscribed", "bounced", "complained"))
            assert isinstance(understood, ChurnEvent)
            accepted = await self.record.accept(to_arrival(understood, received_at=self.now(), source="webhook"))
            assert accepted.public_id is not None
            ids.append(accepted.public_id)
        return ids

    async def signal(self, event_id: str) -> Signal:
        """Where a signal stands."""
        async with self.record.read() as connection:
            signal = await find_signal(connection, event_id)
        assert signal is not None
        return signal

    async def counts(self) -> dict[str, int]:
        """How many signals stand at each status."""
        async with self.record.read() as connection:
            counted = select(signals.c.status, func.count()).group_by(signals.c.status)
            return {str(status): count for status, count in await connection.execute(counted)}

    async def all_become(self, status: Status, count: int, *, seconds: float = 15) -> None:
        """Wait until so many signals stand at a status."""

        async def stands() -> bool:
            return (await self.counts()).get(status.value, 0) == count

        await until(stands, f"{count} signals to be {status.value}", seconds=seconds)


@asynccontextmanager
async def shift(
    folder: Path,
    upstreams: Upstreams,
    *,
    sinks: Sequence[Sink] = (),
    grace: timedelta = GRACE,
    now: Callable[[], datetime] = utc_now,
    **told: Any,
) -> AsyncIterator[Shift]:
    """A worker at work on the record of `folder`; `told` are settings."""
    settings = settings_for(folder, **told)
    workers: list[Worker] = []

    def on_accepted(outcomes: Sequence[Accepted]) -> None:
        for worker in workers:
            worker.accepted(outcomes)

    async with open_record(settings.database_url, on_accepted=on_accepted) as record:
        worker = Worker(settings, record, customerio=upstreams, mave=upstreams, sinks=sinks, now=now)
        workers.append(worker)
        await worker.start()
        try:
            yield Shift(record, worker, now)
        finally:
            await worker.stop(grace)
