"""What a buffer is: a durable line of raw events between the door and the record.

The door puts the verified body, not what it understood of it, so that a worker of a newer release can understand it
better. A worker takes events, commits them to the record, and only then tells the buffer that they are done. Whatever
is not done comes again, to this worker or another: delivery is at least once, and the record's unique key makes it
once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A body whose signature was right, byte for byte, when it came (aware, UTC) and by which way."""

    body: bytes
    received_at: datetime
    source: str = "webhook"


@dataclass(frozen=True, slots=True)
class Taken:
    """One event of the buffer on its way into the record.

    `token` is what the buffer knows it by. `deliveries` counts how often it was taken, this time included.
    `problem` is set when the entry is none of ours: then `event.body` is all that could be made of it.
    """

    token: str
    event: RawEvent
    deliveries: int
    problem: str | None = None


class Buffer(Protocol):
    """A place that holds raw events durably. All of its methods may raise BufferUnavailable."""

    @property
    def name(self) -> str:
        """Which buffer, for people: kind and place, no secret."""

    def put(self, event: RawEvent) -> asyncio.Future[None]:
        """Hold an event; the future is done once it would survive a crash of this process.

        Raises BufferUnavailable at once, or from the future: away, too slow, or full (a full buffer refuses and
        drops nothing). The event may be held all the same when no answer came in time. Raises TooLargeToBuffer for
        what would never fit.
        """

    async def take(self, limit: int, wait: timedelta) -> list[Taken]:
        """Up to `limit` events, oldest first as far as the buffer keeps an order; none when none comes within `wait`.

        What is taken is hidden from other takers for the buffer's hold, counted from now or from the last `hold`.
        """

    async def done(self, tokens: Sequence[str]) -> None:
        """These are committed to the record: delete them. May be repeated."""

    async def hold(self, tokens: Sequence[str]) -> None:
        """These are still being worked at: keep them from other takers for another hold."""

    async def release(self, tokens: Sequence[str]) -> None:
        """These will not be worked at here: let another taker have them at once."""

    async def length(self) -> int:
        """Events held, those taken and not done among them; approximate where the buffer counts so."""

    async def check(self) -> list[str]:
        """Prove that the buffer answers; returns one line for each thing about it that could lose events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferOptions:
    """What the operator may choose.

    `stream` and `group` name the Redis stream and its consumer group. `max_length` is the number of events above which
    the buffer refuses. `replicas` is how many Redis replicas must confirm each write. `hold_seconds` is how long a
    worker may be silent before its events go to another. `put_timeout_seconds` is the longest that the door waits.
    `max_waiting` is how many requests of one process may wait at once.
    """

    stream: str = "churn_radar:events"
    group: str = "churn_radar"
    max_length: int = 100_000
    replicas: int = 0
    hold_seconds: float = 60.0
    put_timeout_seconds: float = 1.5
    max_waiting: int = 2000
