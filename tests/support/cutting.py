"""A way to Postgres that can be cut: a proxy on a socket, between a record and the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Way:
    """Passes bytes on; cuts connections when told to."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.cut_answers_to: bytes | None = None
        self.cuts = 0

    @property
    def url(self) -> str:
        """The URL of the database by this way."""
        user = self._to.netloc.rpartition("@")[0]
        return urlunsplit(self._to._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    async def open(self) -> None:
        """Let connections through; by the port of before when there was one."""
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """As if the server were stopped: no connection is left, and none is taken."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port or 5432)
        self._open |= {writer, back}
        cutting = asyncio.Event()
        try:
            await asyncio.gather(self._forward(reader, back, cutting), self._backward(there, writer, cutting))
        finally:
            for each in (writer, back):
                self._open.discard(each)
                each.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, cutting: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.cut_answers_to is not None and self.cut_answers_to in data:
                    self.cut_answers_to = None
                    cutting.set()
                to.write(data)
        to.close()

    async def _backward(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, cutting: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if cutting.is_set():
                    # The server has done it, and nobody hears of it.
                    self.cuts += 1
                    to.transport.abort()
                    return
                to.write(data)
        to.close()


@asynccontextmanager
async def way_to(url: str) -> AsyncIterator[Way]:
    """A way to the database of a URL."""
    way = Way(url)
    await way.open()
    try:
        yield way
    finally:
        await way.close()
