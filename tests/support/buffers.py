"""Benches for the buffers: a place for one, with a record behind it, and what the door makes of a body."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import boto3

from churn_radar.buffer.drain import Accept, Drain
from churn_radar.buffer.open import open_buffer
from churn_radar.buffer.protocol import Buffer, BufferOptions, RawEvent, Taken
from churn_radar.errors import NotUnderstood
from churn_radar.intake.events import NotASignal, to_arrival, to_quarantine, understand
from churn_radar.intake.payload import decode, read_event
from churn_radar.store.arrivals import Arrival
from tests.support.door import ALERTS, House, event

CAME_AT = datetime(2026, 11, 24, 8, 0, 0, 123456, tzinfo=UTC)
MOMENT = timedelta(seconds=0.05)


def read(body: bytes, received_at: datetime) -> Arrival | None:
    """What the door makes of a body."""
    try:
        understood = understand(read_event(decode(body)), ALERTS)
    except NotUnderstood as error:
        return to_quarantine(body, error.reason, received_at=received_at, event_id=None)
    if isinstance(understood, NotASignal):
        return None
    return to_arrival(understood, received_at=received_at, source="webhook")


def raw(name: str, **told: Any) -> RawEvent:
    """A bounce with an id of its own, as it came through the door."""
    return RawEvent(json.dumps(event(event_id=name, **told)).encode(), CAME_AT)


@cache
def _models() -> boto3.Session:
    """What it has read of SQS' description is kept with the session: that takes longer than most calls."""
    return boto3.Session()


@contextmanager
def sqs_client(moto: str) -> Iterator[Any]:
    """The queues as their owner sees them."""
    client = _models().client("sqs", region_name="eu-west-1", endpoint_url=f"http://{moto}")
    try:
        yield client
    finally:
        client.close()


Opening = Callable[[BufferOptions], AbstractAsyncContextManager[Buffer]]


@dataclass
class Bench:
    """One empty buffer, which any number of processes may open; `options` are those of the place."""

    kind: str
    opening: Opening
    options: dict[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def open(self, **told: Any) -> AsyncIterator[Buffer]:
        """The buffer, as one process has it."""
        async with self.opening(BufferOptions(**{**self.options, **told})) as buffer:
            yield buffer


@asynccontextmanager
async def draining(buffer: Buffer, home: House, *, accept: Accept | None = None, **told: Any) -> AsyncIterator[Drain]:
    """A drain that runs from the buffer into the record for as long as the block does."""
    drain = Drain(
        buffer,
        accept or home.record.accept_soon,
        told.pop("read", read),
        ready=told.pop("ready", home.record.check),
        **{"wait": MOMENT, "pauses": (0.02, 0.05), **told},
    )
    drain.start()
    try:
        yield drain
    finally:
        await drain.stop()


async def until(probe: Callable[[], Awaitable[Any]], patience: float = 60.0) -> Any:
    """Ask until the answer is true."""
    deadline = time.monotonic() + patience
    while not (answer := await probe()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
    return answer


async def take_all(buffer: Buffer, count: int, *, limit: int = 10, patience: float = 60.0) -> list[Taken]:
    """Take until so many came."""
    deadline = time.monotonic() + patience
    taken: list[Taken] = []
    while len(taken) < count:
        assert time.monotonic() < deadline, f"{len(taken)} of {count} came"
        taken += await buffer.take(limit, timedelta(seconds=0.2))
    return taken


def tokens(taken: Sequence[Taken]) -> list[str]:
    """What the buffer knows them by."""
    return [one.token for one in taken]


@dataclass
class SqsBench(Bench):
    """A queue of its own; `queue_url` is the one that the stand-in knows, `url` the one of the settings."""

    moto: str = ""
    queue_url: str = ""
    url: str = ""

    def attributes(self) -> dict[str, str]:
        """What the queue's owner sees of it."""
        with sqs_client(self.moto) as client:
            answer = client.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])
        told: dict[str, str] = answer["Attributes"]
        return told

    def send(self, text: str) -> None:
        """A message that somebody else sends."""
        group = {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if self.kind == "sqs-fifo" else {}
        with sqs_client(self.moto) as client:
            client.send_message(QueueUrl=self.queue_url, MessageBody=text, **group)


def sqs_bench(moto: str, *, fifo: bool = False, **attributes: str) -> SqsBench:
    """A new queue, with a retention that is long enough unless told otherwise."""
    wanted = {"MessageRetentionPeriod": "1209600", **({"FifoQueue": "true"} if fifo else {}), **attributes}
    with sqs_client(moto) as client:
        name = f"q-{uuid.uuid4().hex}{'.fifo' if fifo else ''}"
        queue_url: str = client.create_queue(QueueName=name, Attributes=wanted)["QueueUrl"]
    path = queue_url.partition("://")[2].partition("/")[2]
    url = f"sqs://{moto}/{path}?region=eu-west-1&tls=off"
    # The hold of SQS is a whole number of seconds; and the stand-in is slower than SQS.
    options = {"hold_seconds": 1, "put_timeout_seconds": 10}
    kind = "sqs-fifo" if fifo else "sqs"
    return SqsBench(kind, lambda options: open_buffer(url, options), options, moto, queue_url, url)
