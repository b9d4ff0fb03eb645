"""The short way for webhooks: what came in one piece is answered without the machinery that streams need.

For each request uvicorn makes a scope, a cycle with an event, and a task; the application takes messages from it and
hands messages back. That is half of what an accepted event costs, and what it buys, waiting for more, is not needed
here: a webhook is a few hundred bytes, and nearly always there as a whole once its first byte is. So the door is called
right from the parser. Everything else goes uvicorn's way as if this were not here: other routes, bodies that come
in pieces, senders that ask for `100 Continue`, requests behind one that is not answered yet, and connections whose
answers pile up unread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from churn_radar.intake.door import CLOSE, PATH, Door, Pending, Reply, refusal, stored
from churn_radar.one_write import OneWriteProtocol, OneWriteTransport

log = structlog.get_logger(__name__)

_PATH = PATH.encode()


class _NobodyWaits:
    @staticmethod
    def set() -> None:
        """Wake nobody."""


class _Answering:
    """Stands where uvicorn keeps the cycle of a connection's last request, as far as uvicorn looks at it."""

    __slots__ = ("body", "disconnected", "keep_alive", "message_event", "more_body", "response_complete")

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.more_body = False
        self.body = b""
        self.message_event = _NobodyWaits


class ShortWayProtocol(OneWriteProtocol):
    """HTTP/1.1, with `door` asked directly for whole requests to its path; without a door, plain uvicorn."""

    def __init__(self, *arguments: Any, door: Door | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._door = door
        self._held: bytes | None = None
        self._keep_alive = True
        # When the last answer went out, by the loop's clock; None while there is more to do than to wait.
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        # The loop itself holds tasks only weakly.
        self._finishing: set[asyncio.Task[Reply]] = set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a connection that has ended."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the socket has; what is still short of a whole request at its end goes the long way."""
        self._idle_since = None
        super().data_received(data)
        if self._held is None:
            return
        body, self._held = self._held, None
        if not self.transport.is_closing():
            super().on_headers_complete()
            if body:
                super().on_body(body)

    def on_headers_complete(self) -> None:
        """Hold a request to the door back until its body is there, or this read is at its end."""
        self._idle_since = None  # what came in the same read may have been answered already
        if (
            self._door is not None
            and self.url == _PATH
            and self.parser.get_method() == b"POST"
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and not self.flow.write_paused
            and (self.cycle is None or self.cycle.response_complete)
        ):
            self._held = b""
            self._keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held = self._held + body if self._held else body

    def on_message_complete(self) -> None:
        """Answer, or begin to."""
        if self._held is None:
            super().on_message_complete()
            return
        body, self._held = self._held, None
        answering = _Answering(self._keep_alive)
        self.cycle = cast("RequestResponseCycle", answering)
        reply = self._ask(body)
        if isinstance(reply, Reply):
            self._send(answering, reply)
            return
        if isinstance(reply.outcome, asyncio.Future):
            # The record's: no task is needed to wait for it, unless it fails.
            reply.outcome.add_done_callback(partial(self._kept, answering, reply))
        else:
            self._finish(answering, reply)

    def _ask(self, body: bytes) -> Reply | Pending:
        assert self._door is not None  # noqa: S101  nothing is held without it
        try:
            envelope = self._door.look(self.headers)
            return envelope if isinstance(envelope, Reply) else self._door.take(envelope, body)
        except Exception as error:
            # Raised through the parser it would pass for a malformed request.
            return _broken(error)

    def _kept(self, answering: _Answering, pending: Pending, outcome: asyncio.Future[Any]) -> None:
        if outcome.cancelled() or outcome.exception() is not None:
            self._finish(answering, pending)
        else:
            self._send(answering, stored(outcome.result()))

    def _finish(self, answering: _Answering, pending: Pending) -> None:
        assert self._door is not None  # noqa: S101  nothing is pending without it
        task = self.loop.create_task(self._door.finish(pending))
        self._finishing.add(task)
        task.add_done_callback(partial(self._finished, answering))

    def _finished(self, answering: _Answering, task: asyncio.Task[Reply]) -> None:
        self._finishing.discard(task)
        if task.cancelled():
            self.transport.close()
            return
        error = task.exception()
        self._send(answering, task.result() if error is None else _broken(error))

    def _send(self, answering: _Answering, reply: Reply) -> None:
        answering.response_complete = True
        if self.transport.is_closing():
            return
        closing = CLOSE in reply.headers
        if not answering.keep_alive and not closing:
            closing, reply = True, reply._replace(headers=(*reply.headers, CLOSE))
        cast("OneWriteTransport", self.transport).write_now(_on_the_wire(reply, self.server_state.default_headers))
        if closing:
            self.transport.close()
        if closing or self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self._rest()

    def _rest(self) -> None:
        """As uvicorn: close a connection that sends nothing more for as long as it may.

        Its timer is made and cancelled for each request, which costs a tenth of what the short way does. Here one timer
        is left alone, and looks when it fires how long nothing has come.
        """
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        self._idle_timer = None
        if self._idle_since is None:
            return  # after its next answer it is looked at again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._look_whether_idle)
        else:
            self.timeout_keep_alive_handler()


def _on_the_wire(reply: Reply, always: Sequence[tuple[bytes, bytes]]) -> bytes:
    head = b"%scontent-type: %s\r\ncontent-length: %d\r\n" % (
        STATUS_LINE[reply.status],
        reply.media_type,
        len(reply.body),
    )
    more = b"".join(b"%s: %s\r\n" % header for header in (*always, *reply.headers))
    return b"%s%s\r\n%s" % (head, more, reply.body)


def _broken(error: BaseException) -> Reply:
    """The answer when a fault of ours left none: uvicorn's own, in our form."""
    log.error("door.failed", exc_info=error)
    return refusal(500, "something went wrong here; the log says what", CLOSE)
