"""A load generator that costs little itself: keep-alive connections, prepared requests, one answer awaited each.

It only ever talks to loopback, and is bounded by the number of requests it is given.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ulid import ULID

from churn_radar.intake.door import PATH
from churn_radar.intake.signature import sign

CONNECTIONS = 64
# What the ids of events say of when they happened.
FIRST_SECOND, EVENTS_A_SECOND = 1_795_500_000, 4_000


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of requests came to. Times in seconds; `statuses` counts HTTP statuses."""

    requests: int
    seconds: float
    latencies: Sequence[float]
    statuses: dict[int, int]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds

    def milliseconds(self, share: float) -> float:
        """The latency that `share` (0 to 1) of the requests stayed within, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    def all_answered(self, status: int = 200) -> Load:
        """This very load; raises RuntimeError when an answer had another status: its figures would mean nothing."""
        if set(self.statuses) != {status}:
            raise RuntimeError(f"wanted {self.requests} answers of {status}, got {self.statuses}")
        return self


class _Connection(asyncio.Protocol):
    """Sends the next prepared request as soon as the answer to the last one is there."""

    def __init__(
        self, requests: Iterator[bytes], statuses: Counter[int], latencies: list[float], answered: list[bytes] | None
    ) -> None:
        self._requests = requests
        self._statuses = statuses
        self._latencies = latencies
        self._answered = answered
        self._under_way = b""
        self._buffer = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self._sent = time.perf_counter()
        self._under_way = request
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self._latencies.append(time.perf_counter() - self._sent)
        self._statuses[int(head[9:12])] += 1
        if self._answered is not None and head[9:12] == b"200":
            self._answered.append(self._under_way)
        self._buffer = body[length:]
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def run(
    port: int, requests: Sequence[bytes], *, connections: int = CONNECTIONS, most_seconds: float = 120
) -> Load:
    """Send every request once over `connections` connections to 127.0.0.1, as fast as answers come back.

    Raises TimeoutError when that takes longer than `most_seconds`.
    """
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    pending = iter(requests)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        (await loop.create_connection(lambda: _Connection(pending, statuses, latencies, None), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    async with asyncio.timeout(most_seconds):
        await asyncio.gather(*(connection.done for connection in made))
    return Load(len(latencies), time.perf_counter() - began, latencies, dict(statuses))


async def run_until_it_dies(
    port: int, requests: Sequence[bytes], *, kill: Callable[[], None], after: int, connections: int = CONNECTIONS
) -> list[bytes]:
    """As `run`, but once `after` requests were answered, `kill` is called; returns those that were answered 200."""
    answered: list[bytes] = []
    pending = iter(requests)
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: _Connection(pending, Counter(), [], answered), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    while len(answered) < after:  # noqa: ASYNC110  an event would be set for every answer
        await asyncio.sleep(0.001)
    kill()
    await asyncio.gather(*(connection.done for connection in made), return_exceptions=True)
    return answered


def request(path: str, body: bytes, headers: dict[str, str], *, method: str = "POST") -> bytes:
    """One request, ready to be written to a socket."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    return head.encode() + body


def webhook(payload: Any, secret: bytes, timestamp: bytes) -> bytes:
    """One signed reporting webhook, as Customer.io sends it."""
    body = json.dumps(payload).encode()
    return request(
        PATH,
        body,
        {
            "Content-Type": "application/json",
            "User-Agent": "Customer.io Webhooks",
            "X-CIO-Timestamp": timestamp.decode(),
            "X-CIO-Signature": sign(secret, body, timestamp),
        },
    )


def webhooks(numbers: Iterable[int], metric: str, customer_ids: Iterable[str], secret: str) -> list[bytes]:
    """Signed webhooks of one metric, one for each number (which makes its event id) and customer."""
    timestamp = b"%d" % time.time()
    return [
        webhook(event(number, metric, customer_id), secret.encode(), timestamp)
        for number, customer_id in zip(numbers, customer_ids, strict=True)
    ]


def event(number: int, metric: str, customer_id: str) -> dict[str, Any]:
    """A reporting webhook of the usual size. Its id is like a ULID, ten characters of time and sixteen of chance."""
    time_of = str(ULID.from_timestamp(FIRST_SECOND + number / EVENTS_A_SECOND))[:10]
    return {
        "event_id": f"{time_of}{hashlib.blake2b(b'%d' % number, digest_size=8).hexdigest().upper()}",
        "object_type": "email",
        "metric": metric,
        "timestamp": FIRST_SECOND + number % 86_400,
        "data": {
            "customer_id": customer_id,
            "identifiers": {"id": customer_id, "email": f"{customer_id}@bench.example", "cio_id": None},
            "recipient": f"{customer_id}@bench.example",
            "delivery_id": f"dgT{number:020d}",
            "campaign_id": 23,
            "action_id": 96,
            "subject": "What is new this month",
        },
    }
