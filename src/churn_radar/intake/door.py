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
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime

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

Accept = Callable[[bytes, Arrival], Awaitable[Accepted]]


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
        if scope["method"] != "POST":
            metrics.door("wrong_method")
            await _refuse(send, 405, "the webhook takes POST only", allow=b"POST")
            return
        signatures: list[bytes] = []
        timestamps: list[bytes] = []
        declared = 0
        for name, value in scope["headers"]:
            if name == b"x-cio-signature":
                signatures.append(value)
            elif name == b"x-cio-timestamp":
                timestamps.append(value)
            elif name == b"content-length":
                declared = _length(value)
            elif name == b"content-type" and not _is_json(value):
                log.warning("door.wrong_type", hint="the sender, or a proxy, names another type than application/json")
                metrics.door("wrong_type")
                await _refuse(send, 415, "the webhook takes application/json only")
                return
        try:
            body = await self._body(receive, declared)
        except _TooLarge:
            # The sender repeats it for days and holds its later events back: somebody has to hear of it.
            log.warning("door.too_large", declared=declared, limit=self._max_body_bytes)
            metrics.door("too_large")
            await _refuse(send, 413, f"the body is larger than {self._max_body_bytes} bytes")
            return
        except NoRoom:
            log.warning("door.no_room", declared=declared, bytes_under_way=self._room.taken)
            metrics.door("no_room")
            await _refuse(send, 503, "too many large bodies are under way; send it again", retry_after=b"1")
            return
        except TimeoutError:
            log.warning("door.too_slow", declared=declared, seconds=BODY_TIMEOUT_SECONDS)
            metrics.door("too_slow")
            await _refuse(send, 408, "the body did not arrive in time")
            return
        except _SenderGone:
            return
        signed = self._verify(body, signatures, timestamps)
        if isinstance(signed, Refusal):
            metrics.door("refused")
            log.warning("door.refused", likely_cause=signed.value, bytes=len(body))
            await _refuse(send, 401, "the signature is missing or wrong")
            return
        try:
            accepted = await self._keep(signed)
        except RecordUnavailable as error:
            metrics.door("unavailable")
            log.error("door.unavailable", cause=str(error))  # noqa: TRY400  the cause is told, a trace adds nothing
            await _refuse(send, 503, "the event cannot be stored right now; send it again", retry_after=b"1")
            return
        metrics.door(accepted.verdict.value)
        await _answer(send, accepted)

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

    async def _keep(self, signed: SignedBody) -> Accepted:
        """Decide, and commit what is worth keeping. Raises RecordUnavailable."""
        now = self._now()
        arrival = read_body(signed.body, self._alert_events, received_at=now)
        if isinstance(arrival, NotASignal):
            return Accepted(Verdict.IGNORED, arrival.event_id)
        if arrival.body is not None:
            log.warning("door.not_understood", reason=arrival.reason, bytes=len(signed.body))
        try:
            return await self._accept(signed.body, arrival)
        except NotStorable:
            log.error("door.not_storable", event_id=arrival.event_id)  # noqa: TRY400  the record has told the cause
            kept = to_quarantine(signed.body, NOT_STORABLE, received_at=now, event_id=None)
            return await self._accept(signed.body, kept)


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


async def _answer(send: Send, accepted: Accepted) -> None:
    body = orjson.dumps({"status": accepted.verdict.value, "event_id": accepted.public_id})
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def _refuse(
    send: Send, status: int, detail: str, *, allow: bytes | None = None, retry_after: bytes | None = None
) -> None:
    body = problem_body(status, detail)
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", b"%d" % len(body))]
    if allow:
        headers.append((b"allow", allow))
    if retry_after:
        headers.append((b"retry-after", retry_after))
    if status in (408, 413):
        # The rest of the body is not read; the connection cannot be used again.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
