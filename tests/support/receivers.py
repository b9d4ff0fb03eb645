"""Real servers that sinks send to: an HTTP receiver that notes what came, and a mail server."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from churn_radar.simulator.server import running


@dataclass
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers as `answers` says, in order, then 200; notes what came."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def take(self, request: Request) -> Response:
        """Note one request."""
        body = await request.body()
        self.requests.append(Received(str(request.url.path), dict(request.headers), body))
        if self.hold is not None:
            await self.hold.wait()
        return self.answers.pop(0) if self.answers else Response("ok")


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server that takes POSTs and PUTs at any path."""
    made = Receiver()
    app = Starlette(routes=[Route("/{rest:path}", made.take, methods=["GET", "POST", "PUT"])])
    async with running(app) as made.url:
        yield made


@dataclass
class Mailbox:
    """What a mail server took; `refuse` answers instead, when set."""

    port: int = 0
    letters: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refuse: str | None = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take one mail."""
        if self.refuse:
            return self.refuse
        content: Any = envelope.content
        letter = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 taken"


@asynccontextmanager
async def mail_server() -> AsyncIterator[Mailbox]:
    """A real mail server; whoever sends to it from this loop must not block it."""
    box = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="mail.example", loop=loop), "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        await server.wait_closed()
