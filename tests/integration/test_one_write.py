from __future__ import annotations

import asyncio
from typing import cast

import httpx
from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send

from churn_radar.one_write import MOST_HELD_BYTES, OneWriteTransport
from churn_radar.simulator.server import running
from tests.support.work import until


class Wire:
    """Keeps what it was given to send."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed_after: int | None = None

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed_after = len(self.sent)

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


def over(wire: Wire) -> OneWriteTransport:
    return OneWriteTransport(cast("asyncio.Transport", wire))


async def test_what_is_written_in_one_turn_of_the_loop_leaves_in_one_piece() -> None:
    wire = Wire()
    transport = over(wire)
    transport.write(b"head")
    transport.write(b"body")
    assert wire.sent == []
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)
    assert wire.sent == [b"headbody", b"next"]


async def test_what_is_held_leaves_before_the_connection_closes() -> None:
    wire = Wire()
    transport = over(wire)
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert wire.sent == [b"last words"]
    assert wire.closed_after == 1


async def test_a_long_answer_is_not_held_back() -> None:
    wire = Wire()
    transport = over(wire)
    transport.write(b"x" * (MOST_HELD_BYTES + 1))
    assert len(wire.sent) == 1
    await asyncio.sleep(0)
    assert len(wire.sent) == 1


async def test_everything_else_is_asked_of_the_transport_itself() -> None:
    assert over(Wire()).get_extra_info("peername") == "the peername"


async def test_answers_arrive_whole_whatever_their_length_and_in_the_order_of_the_requests() -> None:
    app = FastAPI()

    @app.get("/{size}")
    async def give(size: int) -> Response:
        return Response(b"x" * size)

    async with running(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for size in (0, 1, MOST_HELD_BYTES - 1, MOST_HELD_BYTES, 5 * MOST_HELD_BYTES):
            assert (await http.get(f"/{size}")).content == b"x" * size
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % size for size in (3, 1, 2)))
        sizes = []
        for _ in range(3):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            sizes.append(len(await reader.readexactly(length)))
        assert sizes == [3, 1, 2]
        writer.close()


async def test_a_stream_reaches_its_reader_piece_by_piece() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"second"})

    async with running(app) as url, httpx.AsyncClient(trust_env=False) as http, http.stream("GET", url) as answer:
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"first"
        go_on.set()
        assert await anext(pieces) == b"second"


async def test_a_reader_that_goes_away_meanwhile_harms_nobody() -> None:
    done = asyncio.Event()
    started = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        for _ in range(100):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            break
        await receive()
        await receive()
        await send({"type": "http.response.body", "body": b"too late"})
        done.set()

    async with running(app) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        writer.transport.abort()

        async def over_with() -> bool:
            return done.is_set()

        await until(over_with, "the answer to nobody")
