"""How an app is run on a real socket for the demo and the tests: up at once, gone at once."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from churn_radar.errors import StartError
from churn_radar.simulator.server import running


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def test_the_address_answers_as_soon_as_it_is_known() -> None:
    async with running(Starlette(routes=[Route("/", hello)])) as url, httpx.AsyncClient() as http:
        assert url.startswith("http://127.0.0.1:")
        assert (await http.get(url)).text == "hello"


async def test_two_apps_run_side_by_side_on_ports_of_their_own() -> None:
    app = Starlette(routes=[Route("/", hello)])
    async with running(app) as one, running(app) as other:
        assert one != other


async def test_the_port_is_free_again_afterwards() -> None:
    async with running(Starlette(routes=[Route("/", hello)])) as url:
        port = int(url.rpartition(":")[2])
    async with running(Starlette(routes=[Route("/", hello)]), port=port) as again:
        assert again == url


async def test_a_taken_port_is_a_start_error_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=str(port)):
            async with running(Starlette(), port=port):
                pass


async def test_the_lifespan_is_run_around_the_block() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        seen.append("up")
        yield
        seen.append("down")

    async with running(Starlette(lifespan=lifespan)):
        assert seen == ["up"]
    assert seen == ["up", "down"]


async def test_a_failing_start_up_is_a_start_error_and_leaves_the_loop_alive() -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if signal.SIGINT:
            raise RuntimeError("no database")
        yield

    with pytest.raises(StartError):
        async with running(Starlette(lifespan=lifespan)):
            pass


async def test_a_hanging_request_does_not_hold_up_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    entered = asyncio.Event()

    async def hang(_: Request) -> Response:
        entered.set()
        await asyncio.sleep(3600)
        return PlainTextResponse("never")

    async with httpx.AsyncClient() as http:
        async with running(Starlette(routes=[Route("/", hang)])) as url:
            call = asyncio.create_task(http.get(url))
            await entered.wait()
            started = time.monotonic()
        assert time.monotonic() - started < 2
        with pytest.raises(httpx.TransportError):
            await call
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_idle_connection_does_not_hold_up_the_stop() -> None:
    async with httpx.AsyncClient() as http:
        async with running(Starlette(routes=[Route("/", hello)])) as url:
            await http.get(url)
            started = time.monotonic()
        assert time.monotonic() - started < 2


async def test_the_signal_handlers_of_the_process_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with running(Starlette()):
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_an_error_in_the_block_still_stops_the_server() -> None:
    url = ""
    with pytest.raises(RuntimeError, match="mine"):
        async with running(Starlette()) as url:
            raise RuntimeError("mine")
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(url)
