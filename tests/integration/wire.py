"""A server below HTTP: it says exactly these bytes, and remembers exactly what it heard."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)


@dataclass(slots=True)
class Wire:
    """A listening server: where it is, and what it has heard."""

    port: int
    heard: list[Heard] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def saying(status: int, payload: object, *headers: str) -> bytes:
    """A whole answer with a JSON body; the connection closes after it."""
    body = json.dumps(payload).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextlib.asynccontextmanager
async def wire(*answers: bytes | Behaviour) -> AsyncIterator[Wire]:
    """Serve each request with the next of `answers`, the last one for ever: bytes to say, or what to do."""
    tasks: set[asyncio.Task[object]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        # Cancelled at the end or left by the client: both are what the tests are about, and no failure here.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            heard = await _read(reader)
            answer = answers[min(len(place.heard), len(answers) - 1)]
            place.heard.append(heard)
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    place = Wire(server.sockets[0].getsockname()[1])
    try:
        yield place
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Heard(method, target, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Say nothing, for ever."""
    await asyncio.Event().wait()


def cutting(status: int) -> Behaviour:
    """Promise a body, send half of it, and break the connection."""

    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 %d Said\r\nContent-Length: 100\r\n\r\n{"customer": ' % status)
        await writer.drain()
        writer.transport.abort()

    return cut


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a byte every hundredth of a second: never silent, never done."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


def flooding(status: int) -> Behaviour:
    """Promise 100 GB and send zeros for as long as the other side takes them."""

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: 107374182400\r\n\r\n" % status)
        while True:
            writer.write(b"0" * 65536)
            await writer.drain()

    return flood
