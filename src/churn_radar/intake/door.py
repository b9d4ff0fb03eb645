"""The door: `POST /webhooks/customerio`, as a plain ASGI handler.

It answers by one table (README, "What the door answers"). The reasons behind the table: Customer.io waits four
seconds, then retries for seven days and holds back every later event of the webhook until the failed one
succeeds; after most 4xx answers it waits a whole hour first. So whatever is genuine gets a 200, understood or
not, and only what cannot be committed right now gets a 503.

It is plain ASGI, not a FastAPI endpoint, because it is the one hot path: the raw bytes are needed for the
signature anyway, and most traffic is opens and clicks that end here after one JSON parse.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
import structlog
from starlette.types import Receive, Scope, Send

from churn_radar import metrics
from churn_radar.errors import NotStorable, RecordUnavailable
from churn_radar.intake.events import NOT_STORABLE, NotASignal, to_quarantine
from churn_radar.intake.patience import Patience
from churn_radar.intake.reading import read_body
from churn_radar.intake.room import NoRoom, Room
from churn_radar.intake.signature import Refusal, SignedBody, verify
from churn_radar.problems import PROBLEM_JSON, problem_body
from churn_radar.store.arrivals import Accepted, Arrival, Verdict

log = structlog.get_logger(__name__)

PATH = "/webhooks/customerio"
BODY_TIMEOUT_SECONDS = 10.0
MAX_BODIES_BYTES = 64 * 1024 * 1024
AGAIN = (b"retry-after", b"1")
# The rest of the body is not read; the connection cannot be used again.
CLOSE = (b"connection", b"close")

Accept = Callable[[bytes, Arrival], Awaitable[Accepted]]


class Envelope(NamedTuple):
    """What the headers say of a body that may come in."""

    signatures: Sequence[bytes]
    timestamps: Sequence[bytes]
    declared: int


class Reply(NamedTuple):
    """An answer: its status, its body, and the headers besides the body's type and length."""

    status: int
    body: bytes
    media_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Pending(NamedTuple):
    """A genuine body on its way into the record (or a buffer in front of it)."""

    body: bytes
    arrival: Arrival
    outcome: Awaitable[Accepted]


class _TooLarge(Exception):
    pass


class _SenderGone(Exception):
    pass


class Door:
    """ASGI handler of the webhook route.

    `accept(body, arrival)` keeps what was made of a body, or the body itself, and tells what became of it; it raises
    RecordUnavailable. With no `secrets`, which only development allows, every body counts as signed. `max_bodies_bytes`
    bounds the bodies under way together; there is always room for one.
    """

    def __init__(
        self,
        accept: Accept,
        *,
        secrets: Sequence[bytes],
        alert_events: Collection[str],
        max_body_bytes: int,
        max_bodies_bytes: int = MAX_BODIES_BYTES,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._accept = accept
        self._secrets = tuple(secrets)
        self._alert_events = frozenset(alert_events)
        self._max_body_bytes = max_body_bytes
        self._room = Room(max(max_bodies_bytes, max_body_bytes))
        self._now = now
        self._patience = Patience(BODY_TIMEOUT_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        reply = await self._answer(scope, receive)
        if reply is not None:
            await _send(send, reply)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply | None:
        if scope["method"] != "POST":
            metrics.door("wrong_method")
            return refusal(405, "the webhook takes POST only", (b"allow", b"POST"))
        envelope = self.look(scope["headers"])
        if isinstance(envelope, Reply):
            return envelope
        try:
            body = await self._body(receive, envelope.declared)
        except _TooLarge:
            return self.too_large(envelope.declared)
        except NoRoom:
            log.warning("door.no_room", declared=envelope.declared, bytes_under_way=self._room.taken)
            metrics.door("no_room")
            return refusal(503, "too many large bodies are under way; send it again", AGAIN)
        except TimeoutError:
            log.warning("door.too_slow", declared=envelope.declared, seconds=BODY_TIMEOUT_SECONDS)
            metrics.door("too_slow")
            return refusal(408, "the body did not arrive in time", CLOSE)
        except _SenderGone:
            return None
        taken = self.take(envelope, body)
        return taken if isinstance(taken, Reply) else await self.finish(taken)

    def look(self, headers: Iterable[tuple[bytes, bytes]]) -> Envelope | Reply:
        """What the headers of a POST say, names in lower case; or the answer, when they alone are wrong."""
        signatures: list[bytes] = []
        timestamps: list[bytes] = []
        declared = 0
        for name, value in headers:
            if name == b"x-cio-signature":
                signatures.append(value)
            elif name == b"x-cio-timestamp":
                timestamps.append(value)
            elif name == b"content-length":
                declared = _length(value)
            elif name == b"content-type" and not _is_json(value):
                log.warning("door.wrong_type", hint="the sender, or a proxy, names another type than application/json")
                metrics.door("wrong_type")
                return refusal(415, "the webhook takes application/json only")
        return Envelope(signatures, timestamps, declared)

    def take(self, envelope: Envelope, body: bytes) -> Reply | Pending:
        """Judge a whole body: the answer, or what is to be kept and `finish` waits for. Never raises."""
        if len(body) > self._max_body_bytes:
            return self.too_large(len(body))
        signed = self._verify(body, envelope.signatures, envelope.timestamps)
        if isinstance(signed, Refusal):
            metrics.door("refused")
            log.warning("door.refused", likely_cause=signed.value, bytes=len(body))
            return refusal(401, "the signature is missing or wrong")
        now = self._now()
        arrival = read_body(body, self._alert_events, received_at=now)
        if isinstance(arrival, NotASignal):
            return stored(Accepted(Verdict.IGNORED, arrival.event_id))
        if arrival.body is not None:
            log.warning("door.not_understood", reason=arrival.reason, bytes=len(body))
        try:
            return Pending(body, arrival, self._accept(body, arrival))
        except RecordUnavailable as error:
            return _unavailable(error)

    async def finish(self, pending: Pending) -> Reply:
        """The answer, once what is to be kept is on disk or cannot be."""
        try:
            try:
                return stored(await pending.outcome)
            except NotStorable:
                log.error("door.not_storable", event_id=pending.arrival.event_id)  # noqa: TRY400  the record has told why
                kept = to_quarantine(pending.body, NOT_STORABLE, received_at=pending.arrival.received_at, event_id=None)
                return stored(await self._accept(pending.body, kept))
        except RecordUnavailable as error:
            return _unavailable(error)

    def too_large(self, size: int) -> Reply:
        """The answer to a body over the limit."""
        # The sender repeats it for days and holds its later events back: somebody has to hear of it.
        log.warning("door.too_large", declared=size, limit=self._max_body_bytes)
        metrics.door("too_large")
        return refusal(413, f"the body is larger than {self._max_body_bytes} bytes", CLOSE)

    async def _body(self, receive: Receive, declared: int) -> bytes:
        if declared > self._max_body_bytes:
            raise _TooLarge
        # In one piece: a list of chunks would let a sender of single bytes hold fifty times what it has sent.
        body = bytearray()
        taken = 0
        # The first byte counts too: a sender that says only its headers would hold the connection for ever.
        waiting = self._patience.begin()
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _SenderGone
                chunk: bytes = message.get("body", b"")
                size = len(body) + len(chunk)
                if size > self._max_body_bytes:
                    raise _TooLarge
                if not message.get("more_body") and not body:
                    return chunk
                body += chunk
                if not message.get("more_body"):
                    return bytes(body)
                taken = self._room.grow(taken, size)
        except asyncio.CancelledError:
            if self._patience.is_up(waiting):
                raise TimeoutError from None
            raise
        finally:
            self._room.leave(taken)
            self._patience.end(waiting)

    def _verify(self, body: bytes, signatures: Sequence[bytes], timestamps: Sequence[bytes]) -> SignedBody | Refusal:
        if not self._secrets:
            return SignedBody(body)
        return verify(
            body,
            signatures=signatures,
            timestamps=timestamps,
            secrets=self._secrets,
            now=self._now().timestamp(),
        )


def tell(stored: Sequence[Accepted]) -> None:
    """Log what a commit has stored: one line, since a line an event would cost the door a fifth of its time."""
    counts = Counter(outcome.verdict.value for outcome in stored)
    log.info("door.stored", **counts, event_ids=" ".join(outcome.public_id or "-" for outcome in stored))


def _length(content_length: bytes) -> int:
    """The declared length, or 0 when it cannot be read: what arrives is measured anyway."""
    return int(content_length) if content_length.isdigit() and len(content_length) < 20 else 0


def _is_json(content_type: bytes) -> bool:
    kind = content_type.split(b";", 1)[0].strip().lower()
    return kind in (b"application/json", b"") or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def stored(accepted: Accepted) -> Reply:
    """The answer to what was taken."""
    verdict = accepted.verdict.value
    metrics.door(verdict)
    return Reply(200, orjson.dumps({"status": verdict, "event_id": accepted.public_id}))


def refusal(status: int, detail: str, *headers: tuple[bytes, bytes]) -> Reply:
    """An answer that takes nothing, as a problem document."""
    return Reply(status, problem_body(status, detail), PROBLEM_JSON.encode(), headers)


def _unavailable(error: RecordUnavailable) -> Reply:
    metrics.door("unavailable")
    log.error("door.unavailable", cause=str(error))
    return refusal(503, "the event cannot be stored right now; send it again", AGAIN)


async def _send(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.media_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
