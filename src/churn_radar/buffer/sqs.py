"""An SQS queue as the buffer: batches of ten by size, long polls, deleted once they are in the record.

Standard and FIFO queues both do: the record knows repetitions, and needs no order. Limits are read from the queue
itself, for they were raised from 256 KiB to 1 MiB in 2025 and stand-ins differ. The queue's own rules, its dead-letter
queue among them, are never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from aiobotocore.session import get_session
from botocore.exceptions import ClientError, NoCredentialsError

from churn_radar.buffer.protocol import BufferOptions, RawEvent, Taken
from churn_radar.buffer.sender import GroupSender
from churn_radar.buffer.sqs_calls import MAX_ITEMS, check_failed, status, tens, unavailable, where
from churn_radar.buffer.sqs_message import NotOurs, from_message, to_message
from churn_radar.buffer.url import SqsPlace
from churn_radar.counts import counted
from churn_radar.errors import BufferUnavailable, SettingsError

log = structlog.get_logger(__name__)

SAFE_BYTES = 256 * 1024
LANES = 16
LONGEST_POLL_SECONDS = 20
SHORTEST_POLL = timedelta(seconds=1)
LENGTH_EVERY_SECONDS = 5.0
SHORT_RETENTION = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class _Message:
    """What is sent of an event; FIFO queues want the digest."""

    text: str
    digest: str


class SqsBuffer:
    """One process's access to the queue. Made by `open_sqs`."""

    def __init__(self, place: SqsPlace, options: BufferOptions, putting: Any, taking: Any) -> None:
        self.name = place.name
        self._place = place
        self._options = options
        self._putting, self._taking = putting, taking
        self._hold = max(1, math.ceil(options.hold_seconds))
        self._max_message = SAFE_BYTES
        self._length = 0
        self._held_since = 0
        self._length_at = -math.inf
        self._counting: asyncio.Task[None] | None = None
        self._sender = GroupSender(
            self._put, max_items=MAX_ITEMS, max_bytes=SAFE_BYTES, lanes=LANES, max_waiting=options.max_waiting
        )

    def put(self, event: RawEvent) -> asyncio.Future[None]:
        """See Buffer. The bound is kept by the queue's approximate count, asked for every few seconds."""
        self._count_now_and_then()
        if self._length + self._held_since + self._sender.waiting >= self._options.max_length:
            raise BufferUnavailable(f"the buffer is full: it holds {counted(self._options.max_length, 'event')}")
        text = to_message(event, self._max_message)
        digest = hashlib.sha256(event.body).hexdigest() if self._place.is_fifo else ""
        return self._sender.add(_Message(text, digest), len(text.encode()))

    async def _put(self, batch: Sequence[_Message]) -> list[BufferUnavailable | None]:
        with unavailable("cannot hold the event"):
            async with asyncio.timeout(self._options.put_timeout_seconds):
                answer = await self._putting.send_message_batch(
                    QueueUrl=self._place.queue_url,
                    Entries=[{"Id": str(number), **self._entry(one)} for number, one in enumerate(batch)],
                )
        held = {one["Id"] for one in answer.get("Successful", [])}
        self._held_since += len(held)
        codes = {one["Id"]: str(one.get("Code", "unknown")) for one in answer.get("Failed", [])}
        return [
            None if str(number) in held else BufferUnavailable(f"SQS refused the event: {codes.get(str(number))}")
            for number in range(len(batch))
        ]

    def _entry(self, message: _Message) -> dict[str, Any]:
        if not self._place.is_fifo:
            return {"MessageBody": message.text}
        # Many groups, for one has a single taker at a time. A repetition within five minutes is told to be held, and
        # is: its first copy is in the queue or in the record.
        return {
            "MessageBody": message.text,
            "MessageGroupId": message.digest[:2],
            "MessageDeduplicationId": message.digest,
        }

    async def take(self, limit: int, wait: timedelta) -> list[Taken]:
        """See Buffer. One long poll; more at once when it gives a full ten."""
        taken = await self._receive(min(limit, MAX_ITEMS), wait)
        if not taken and wait < SHORTEST_POLL:
            # SQS waits for whole seconds only, and asking again at once would cost a request each time.
            await asyncio.sleep(wait.total_seconds())
        if len(taken) == MAX_ITEMS and limit > MAX_ITEMS:
            further = range((limit - MAX_ITEMS) // MAX_ITEMS)
            answers = await asyncio.gather(
                *(self._receive(MAX_ITEMS, timedelta(0)) for _ in further), return_exceptions=True
            )
            for answer in answers:
                # What one of them got and could not tell comes again after the hold.
                if isinstance(answer, list):
                    taken += answer
                elif not isinstance(answer, BufferUnavailable):
                    raise answer
        return taken

    async def _receive(self, limit: int, wait: timedelta) -> list[Taken]:
        with unavailable("cannot be read"):
            answer = await self._taking.receive_message(
                QueueUrl=self._place.queue_url,
                MaxNumberOfMessages=limit,
                WaitTimeSeconds=min(LONGEST_POLL_SECONDS, int(wait.total_seconds())),
                VisibilityTimeout=self._hold,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        return [_taken(message) for message in answer.get("Messages", [])]

    async def done(self, tokens: Sequence[str]) -> None:
        """See Buffer."""
        for some in tens(tokens):
            with unavailable("cannot delete what is done"):
                answer = await self._taking.delete_message_batch(
                    QueueUrl=self._place.queue_url,
                    Entries=[{"Id": str(number), "ReceiptHandle": token} for number, token in enumerate(some)],
                )
            check_failed(answer.get("Failed", []), "cannot delete what is done")

    async def hold(self, tokens: Sequence[str]) -> None:
        """See Buffer. SQS allows twelve hours from the first taking; after that another may take it."""
        await self._set_visibility(tokens, self._hold)

    async def release(self, tokens: Sequence[str]) -> None:
        """See Buffer."""
        await self._set_visibility(tokens, 0)

    async def _set_visibility(self, tokens: Sequence[str], seconds: int) -> None:
        for some in tens(tokens):
            with unavailable("cannot keep the events"):
                answer = await self._taking.change_message_visibility_batch(
                    QueueUrl=self._place.queue_url,
                    Entries=[
                        {"Id": str(number), "ReceiptHandle": token, "VisibilityTimeout": seconds}
                        for number, token in enumerate(some)
                    ],
                )
            check_failed(answer.get("Failed", []), "cannot keep the events")

    async def length(self) -> int:
        """See Buffer."""
        told = await self._attributes()
        return sum(int(value) for name, value in told.items() if name.startswith("ApproximateNumberOfMessages"))

    async def check(self) -> list[str]:
        """See Buffer. Learns the queue's limits on the way."""
        told = await self._attributes()
        largest = int(told.get("MaximumMessageSize", SAFE_BYTES))
        self._max_message = largest
        # A batch may be as large as the largest message of the service, which no queue's own limit exceeds.
        self._sender.max_bytes = max(largest, SAFE_BYTES)
        kept = timedelta(seconds=int(told.get("MessageRetentionPeriod", SHORT_RETENTION.total_seconds())))
        if kept < SHORT_RETENTION:
            return [f"the queue deletes messages after {kept / timedelta(days=1):g} d; set its retention to 14 days"]
        return []

    async def _attributes(self) -> Mapping[str, str]:
        with unavailable("does not answer"):
            answer = await self._taking.get_queue_attributes(QueueUrl=self._place.queue_url, AttributeNames=["All"])
        return {str(name): value for name, value in answer.get("Attributes", {}).items()}

    def _count_now_and_then(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._length_at >= LENGTH_EVERY_SECONDS and (self._counting is None or self._counting.done()):
            self._length_at = now
            self._counting = asyncio.create_task(self.count(), name="buffer-count")

    async def count(self) -> None:
        """Learn the length anew; when SQS does not tell it, the last one goes on."""
        before = self._held_since
        with contextlib.suppress(BufferUnavailable):
            self._length = await self.length()
            # Those held meanwhile may be in the count or not: better counted twice for a moment than missed.
            self._held_since -= before

    async def aclose(self) -> None:
        """Send what waits."""
        await self._sender.close()
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)


@contextlib.asynccontextmanager
async def open_sqs(place: SqsPlace, options: BufferOptions) -> AsyncIterator[SqsBuffer]:
    """The queue, for as long as the context lasts; credentials come by AWS's own ways.

    Raises SettingsError when there are none, or the queue does not exist or may not be used. A service that does not
    answer now is waited for.
    """
    session = get_session()
    quick = options.put_timeout_seconds
    async with (
        session.create_client("sqs", **where(place, quick, connections=LANES, attempts=2)) as putting,
        session.create_client("sqs", **where(place, LONGEST_POLL_SECONDS + 10, connections=32, attempts=2)) as taking,
    ):
        buffer = SqsBuffer(place, options, putting, taking)
        try:
            for line in await buffer.check():
                log.warning("buffer.not_durable", buffer=place.name, problem=line)
            await buffer.count()
        except BufferUnavailable as error:
            if isinstance(error.__cause__, NoCredentialsError):
                raise SettingsError(
                    [
                        "CHURN_RADAR_BUFFER_URL: there are no AWS credentials for the queue; set AWS_ACCESS_KEY_ID and"
                        " AWS_SECRET_ACCESS_KEY, a profile, or give the machine a role"
                    ]
                ) from None
            if isinstance(error.__cause__, ClientError) and status(error.__cause__) in (400, 403):
                raise SettingsError([f"CHURN_RADAR_BUFFER_URL: {place.name} cannot be used ({error})"]) from None
            log.warning("buffer.unavailable", buffer=place.name, cause=str(error))
        try:
            yield buffer
        finally:
            await buffer.aclose()


def _taken(message: Mapping[str, Any]) -> Taken:
    told = message.get("Attributes", {})
    token, text = str(message["ReceiptHandle"]), str(message.get("Body", ""))
    deliveries = int(told.get("ApproximateReceiveCount", 1))
    try:
        return Taken(token, from_message(text), deliveries)
    except NotOurs:
        sent = datetime.fromtimestamp(int(told.get("SentTimestamp", 0)) / 1000, UTC)
        stray = RawEvent(text.encode("utf-8", "replace"), sent, "buffer")
        return Taken(token, stray, deliveries, "a message of the queue that is no event of ours")
