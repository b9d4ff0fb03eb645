"""uvicorn's HTTP protocol, with the head and the body of an answer in one write.

uvicorn writes them apart, and uvloop hands each write to the kernel at once: two calls and two packets for an answer
of a hundred bytes, a third of what the server takes for a request. Held back until the end of the event loop's turn
they leave together.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# More than this is not held back: a long answer is written as it comes.
MOST_HELD_BYTES = 64 * 1024


class OneWriteProtocol(HttpToolsProtocol):
    """HTTP/1.1 over a `OneWriteTransport`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        super().connection_made(cast("asyncio.Transport", OneWriteTransport(transport)))


class OneWriteTransport:
    """A transport that sends all that is written in one turn of the event loop in one piece, at the turn's end."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, data: bytes) -> None:
        """Send, a little later."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MOST_HELD_BYTES:
            self._send()

    def _send(self) -> None:
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self._transport.write(b"".join(held))

    def write_now(self, data: bytes) -> None:
        """Send what is a whole answer, behind what is held."""
        if self._held:
            self._held.append(data)
            self._send()
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is held, then close."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the transport's own."""
        return getattr(self._transport, name)
